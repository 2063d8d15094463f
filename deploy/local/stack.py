"""The stack as processes of this machine: what each verb of `make` does where there are no
containers."""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from deploy.alone import alone
from deploy.local import venv
from deploy.local.settings import Settings
from deploy.local.supervised import Program, Supervisor, configuration
from deploy.preflight import Endpoint, check_ports, check_settings
from deploy.terminal import Step, Stop, say

OTHERWISE = "Run make as that user, or as root, or name a folder of your own: HEADRACE_RUN=FOLDER."
# Lines of a log shown when a program ended.
_TAIL = 15
# A program that ended this often while it was waited for is not going to come up by being started
# again.
_ENDS = 2


class Stack:
    """The stack of one run folder, running or not."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self._environ = environ
        self._supervisor = Supervisor(settings)
        self._record = settings.run / "stack.json"
        # Bytes that each log had before this start.
        self._logged: dict[str, int] = {}

    @property
    def is_up(self) -> bool:
        return self._supervisor.answers()

    @property
    def gateway(self) -> str:
        """The address of what runs, which may have been started with other settings than these."""
        return str(self._recorded().get("gateway") or self.settings.gateway)

    @property
    def grpc(self) -> str:
        return f"{self.settings.reach}:{self.settings.grpc_port}"

    @property
    def where_logs_are(self) -> str:
        return f"{self.settings.logs}     (make logs)"

    def check(self) -> None:
        """Stop, before anything is touched, over settings and ports that a start would fail
        over."""
        check_settings(self._environ, self.settings.service_environment(self._environ))
        check_ports(self.settings.doors, own=self._own_endpoints())

    def up(self) -> None:
        with self._alone():
            self.check()
            venv.ensure("local")
            self._train_what_is_missing()
            if self.is_up and (why := self._why_anew()):
                with Step(f"{why}: stopping serving and gateway", "serving and gateway stopped"):
                    self._stop()
            if self.is_up:
                say("   ok serving and gateway are running")
                self._wait_until_ready()
            else:
                self._start()

    def down(self) -> None:
        with self._alone():
            if not self.is_up:
                say("      Nothing runs.")
                return
            with Step("Stopping gateway and serving", "gateway and serving stopped"):
                self._stop()

    def status(self) -> bool:
        """Print the programs and what the gateway says of the models; True when it is ready."""
        if not self.is_up:
            say("Nothing runs; `make up` starts it.")
            return False
        for program in self._supervisor.programs():
            say(f"{program.name:<10} {program.state:<9} {program.told or f'pid {program.pid}'}")
        ready, body = readiness(self.gateway)
        for model in body.get("models", []):
            say(
                f"  {model['name']:<20} "
                f"{model['state']}{'  ' + model['reason'] if model.get('reason') else ''}"
            )
        say(
            f"ready at {self.gateway}"
            if ready
            else f"not ready: {body.get('reason') or 'the gateway does not answer'}"
        )
        return ready

    def logs(self, *, follow: bool) -> None:
        files = sorted(str(path) for path in self.settings.logs.glob("*.log"))
        if not files:
            raise Stop(
                f"There are no logs in {self.settings.logs} yet; `make up` starts the stack."
            )
        os.execvp("tail", ["tail", "-n", "50", *(["-F"] if follow else []), *files])

    def reload(self) -> None:
        """Make the user's list live; a broken list changes nothing."""
        if not self.is_up:
            raise Stop("Nothing runs; `make up` starts the stack and reads the list of models.")
        if self._trainer("reload", "--all-folders"):
            raise Stop("The change is not live; why stands above.")

    def train(self, *words: str) -> None:
        self.versions("train", *words)

    def tensorboard(self, *words: str) -> None:
        venv.ensure("local")
        if code := venv.run(
            "-m", "tensorboard.main", "--logdir", str(self.settings.cache / "runs"), *words
        ):
            raise Stop(f"TensorBoard ended with exit code {code}; what it said stands above.")

    def versions(self, *words: str) -> None:
        """A verb of the trainer. Where nothing runs, what it changes waits for the next start."""
        venv.ensure("local")
        if code := self._trainer(*words):
            raise Stop(
                f"trainer {words[0]} ended with exit code {code}; what it said stands above."
            )

    def _trainer(self, *words: str) -> int:
        environ = self.settings.trainer_environment(self._environ) | {
            "HEADRACE_GATEWAY": self.gateway
        }
        return venv.run("-m", "trainer", *words, env=environ)

    def _train_what_is_missing(self) -> None:
        """`trainer ensure` also renders the live config. It needs no TensorFlow where nothing is
        missing."""
        self.settings.store.mkdir(parents=True, exist_ok=True)
        say("      Training what has no version yet ...")
        began = time.monotonic()
        code = venv.run(
            "-m", "trainer", "ensure", env=self.settings.trainer_environment(self._environ)
        )
        if code:
            raise Stop(
                f"The trainer ended with exit code {code}; what it said stands above. Nothing was "
                "started.\n"
                "Mend that and run make up again: models that have a version are not trained again."
            )
        say(f"   ok the models are there ({time.monotonic() - began:.1f} s)")

    def _start(self) -> None:
        self.settings.logs.mkdir(parents=True, exist_ok=True)
        self._logged = {log.stem: log.stat().st_size for log in self.settings.logs.glob("*.log")}
        try:
            with Step("Starting serving and gateway", "serving and gateway are started"):
                self._supervisor.start(self.settings.service_environment(self._environ))
                endpoints = [(door.host, door.port) for door in self.settings.doors]
                record = {
                    "gateway": self.settings.gateway,
                    "endpoints": endpoints,
                    "identity": self._identity(),
                }
                self._record.write_text(json.dumps(record))
            self._wait_until_ready()
        except BaseException:
            # Nothing half-started stays behind, whatever the reason: not ready, an interrupt, a
            # full disk.
            say("      Stopping what was started.")
            self._stop()
            raise

    def _wait_until_ready(self) -> None:
        limit = self.settings.start_timeout_s
        deadline = time.monotonic() + limit
        ends: dict[str, set[int]] = {}
        with Step("Waiting for the gateway to be ready", "ready") as step:
            while True:
                ready, body = readiness(self.settings.gateway)
                if ready:
                    return
                reason = str(body.get("reason") or "the gateway does not answer yet")
                step.detail(reason)
                for program in self._supervisor.programs():
                    self._look(program, ends)
                if time.monotonic() > deadline:
                    longer = (
                        "" if is_settled(reason) else "\nHEADRACE_START_TIMEOUT_S gives it longer."
                    )
                    last_words = self._last_words("serving", "gateway")
                    raise Stop(f"Not ready after {limit:g} s: {reason}.\n{last_words}{longer}")
                time.sleep(0.1)

    def _look(self, program: Program, ends: dict[str, set[int]]) -> None:
        # What was before this wait does not count.
        seen = ends.setdefault(program.name, {program.ended})
        seen.add(program.ended)
        if program.state == "FATAL" or len(seen) > _ENDS:
            raise Stop(
                f"{program.name} keeps ending. Its last words:\n{self._last_words(program.name)}"
            )

    def _last_words(self, *names: str) -> str:
        """Of this start alone: a log goes on where the one of before ended."""
        told = []
        for name in names:
            path = self.settings.logs / f"{name}.log"
            said = path.read_bytes() if path.exists() else b""
            before = self._logged.get(name, 0)
            # Else it was put aside for a new one meanwhile.
            if before <= len(said):
                said = said[before:]
            lines = said.decode(errors="replace").splitlines()[-_TAIL:]
            told += [f"--- {path}", *(f"  {line}" for line in lines)]
        return "\n".join(told)

    def _stop(self) -> None:
        self._supervisor.stop()
        self._record.unlink(missing_ok=True)

    def _own_endpoints(self) -> set[Endpoint]:
        """What the running programs listen on."""
        return (
            {(host, port) for host, port in self._recorded().get("endpoints", [])}
            if self.is_up
            else set()
        )

    def _why_anew(self) -> str:
        """Why what runs cannot stay; empty when it can."""
        if self._recorded().get("identity") != self._identity():
            return "Settings or packages changed"
        given_up = [
            program.name for program in self._supervisor.programs() if program.state == "FATAL"
        ]
        return f"{' and '.join(given_up)} was given up" if given_up else ""

    def _identity(self) -> str:
        """What running programs were started with: another one needs other programs."""
        environment = self.settings.service_environment(self._environ)
        ours = {name: value for name, value in environment.items() if name.startswith("HEADRACE_")}
        text = json.dumps(
            [configuration(self.settings, Path(), Path()), ours, venv.identity()], sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def _recorded(self) -> dict[str, Any]:
        try:
            recorded = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return {}
        return recorded if isinstance(recorded, dict) else {}

    def _alone(self) -> AbstractContextManager[None]:
        """One up or down of a run folder at a time."""
        return alone(self.settings.run / "lock", otherwise=OTHERWISE)


def is_settled(reason: str) -> bool:
    """Whether a gateway that is not ready for this reason will not be by waiting."""
    return reason.startswith("no model ")


def readiness(gateway: str) -> tuple[bool, dict[str, Any]]:
    """Whether the gateway is ready, and what /readyz said; empty when nobody answers."""
    try:
        with urllib.request.urlopen(f"{gateway}/readyz", timeout=5) as answer:
            return True, json.load(answer)
    except urllib.error.HTTPError as error:
        try:
            body = json.load(error)
        except ValueError:
            body = {}
        return False, body if isinstance(body, dict) else {}
    except (OSError, ValueError):
        return False, {}
