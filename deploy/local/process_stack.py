"""The stack as processes of this machine: what each command of `make` does without containers."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from deploy import readiness
from deploy.file_lock import exclusive
from deploy.local import venv
from deploy.local.local_settings import OTHER_RUN_FOLDER, LocalSettings
from deploy.local.supervisor import Supervisor, configuration
from deploy.preflight import Endpoint, check_ports, check_settings
from deploy.terminal import Step, Stop, say

# Lines of a log shown when a program ended.
_TAIL = 15
# A program that ended this often within one start will not come up by being restarted.
_MAX_ENDS = 2


class ProcessStack:
    """The stack of one run folder, running or not."""

    def __init__(self, settings: LocalSettings, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self._environ = environ
        self._supervisor = Supervisor(settings)
        self._record = settings.run / "stack.json"
        # The size of each log before this start, in bytes.
        self._log_sizes: dict[str, int] = {}
        # By program, when it ended during this start, in seconds of the epoch.
        self._ends: dict[str, set[int]] = {}

    @property
    def is_up(self) -> bool:
        return self._supervisor.answers()

    @property
    def gateway(self) -> str:
        """The running gateway's address; it may have been started with other settings."""
        return str(self._recorded().get("gateway") or self.settings.gateway)

    @property
    def grpc(self) -> str:
        return f"{self.settings.reach}:{self.settings.grpc_port}"

    @property
    def where_logs_are(self) -> str:
        return f"{self.settings.logs}     (make logs)"

    def check(self) -> None:
        """Raise Stop over settings and ports with which a start would fail; touches nothing."""
        gateway = self.settings.service_environment(self._environ)
        check_settings(self._environ, gateway)
        check_ports(self.settings.doors, own=self._own_endpoints())

    def up(self) -> None:
        with self._lock():
            self.check()
            venv.ensure("local")
            self._train_missing_models()
            if self.is_up:
                reason = self._restart_reason()
                if reason is not None:
                    title = f"{reason}: stopping serving and gateway"
                    with Step(title, "serving and gateway stopped"):
                        self._stop()
            if self.is_up:
                say("   ok serving and gateway are running")
                self._wait_until_ready()
            else:
                self._start()

    def down(self) -> None:
        with self._lock():
            if not self.is_up:
                say("      Nothing runs.")
                return
            with Step("Stopping gateway and serving", "gateway and serving stopped"):
                self._stop()

    def status(self) -> bool:
        """Print the programs and the models; True when the gateway is ready."""
        if not self.is_up:
            say("Nothing runs; `make up` starts it.")
            return False
        for program in self._supervisor.programs():
            description = program.description or f"pid {program.pid}"
            say(f"{program.name:<10} {program.state:<9} {description}")
        return readiness.print_status(self.gateway)

    def logs(self, *, follow: bool) -> None:
        files = sorted(str(path) for path in self.settings.logs.glob("*.log"))
        if not files:
            raise Stop(
                f"There are no logs in {self.settings.logs} yet; `make up` starts the stack."
            )
        command = ["tail", "-n", "50"]
        if follow:
            command.append("-F")
        os.execvp("tail", [*command, *files])

    def reload(self) -> None:
        """Make the user's list of models live; a broken list changes nothing."""
        if not self.is_up:
            raise Stop("Nothing runs; `make up` starts the stack and reads the list of models.")
        if self._trainer("reload", "--all-folders"):
            raise Stop("The change is not live; the reason is above.")

    def train(self, *words: str) -> None:
        self.versions("train", *words)

    def tensorboard(self, *words: str) -> None:
        venv.ensure("local")
        logs = str(self.settings.cache / "runs")
        code = venv.run("-m", "tensorboard.main", "--logdir", logs, *words)
        if code:
            raise Stop(f"TensorBoard ended with exit code {code}; its output is above.")

    def versions(self, *words: str) -> None:
        """A command of the trainer. If nothing runs, its change takes effect at the next start."""
        venv.ensure("local")
        code = self._trainer(*words)
        if code:
            raise Stop(f"trainer {words[0]} ended with exit code {code}; its output is above.")

    def _trainer(self, *words: str) -> int:
        environ = self.settings.trainer_environment(self._environ)
        environ["HEADRACE_GATEWAY"] = self.gateway
        return venv.run("-m", "trainer", *words, env=environ)

    def _train_missing_models(self) -> None:
        """`trainer ensure` also renders the live config; it imports TensorFlow only to train."""
        self.settings.store.mkdir(parents=True, exist_ok=True)
        say("      Training what has no version yet ...")
        began = time.monotonic()
        environ = self.settings.trainer_environment(self._environ)
        code = venv.run("-m", "trainer", "ensure", env=environ)
        if code:
            raise Stop(
                f"The trainer ended with exit code {code}; its output is above. "
                "Nothing was started.\n"
                "Mend that and run make up again: models that have a version are not trained again."
            )
        took_s = time.monotonic() - began
        say(f"   ok the models are there ({took_s:.1f} s)")

    def _start(self) -> None:
        self.settings.logs.mkdir(parents=True, exist_ok=True)
        self._log_sizes = {}
        for log in self.settings.logs.glob("*.log"):
            self._log_sizes[log.stem] = log.stat().st_size
        environment = self.settings.service_environment(self._environ)
        try:
            with Step("Starting serving and gateway", "serving and gateway are started"):
                self._supervisor.start(environment)
                self._write_record()
            self._wait_until_ready()
        except BaseException:
            # Nothing may stay half started, also after an interrupt, or on a full disk.
            say("      Stopping what was started.")
            self._stop()
            raise

    def _write_record(self) -> None:
        endpoints = [(door.host, door.port) for door in self.settings.doors]
        record = {
            "gateway": self.settings.gateway,
            "endpoints": endpoints,
            "identity": self._identity(),
        }
        self._record.write_text(json.dumps(record))

    def _wait_until_ready(self) -> None:
        self._ends = {}
        with Step("Waiting for the gateway to be ready", "ready") as step:
            readiness.wait_until_ready(
                lambda: self.settings.gateway,
                step,
                timeout_s=self.settings.start_timeout_s,
                stop_if_failing=self._stop_if_failing,
                last_words=lambda: self._last_words("serving", "gateway"),
            )

    def _stop_if_failing(self) -> None:
        for program in self._supervisor.programs():
            # The first time seen is of an end before this start, and does not count.
            ends = self._ends.setdefault(program.name, {program.ended})
            ends.add(program.ended)
            if program.state == "FATAL" or len(ends) > _MAX_ENDS:
                last_words = self._last_words(program.name)
                raise Stop(f"{program.name} keeps ending. Its last words:\n{last_words}")

    def _last_words(self, *names: str) -> str:
        """The last lines of each log, of this start alone."""
        lines = []
        for name in names:
            path = self.settings.logs / f"{name}.log"
            content = b""
            if path.exists():
                content = path.read_bytes()
            size_before = self._log_sizes.get(name, 0)
            # A shorter log was rotated meanwhile, and all of it is new.
            if size_before <= len(content):
                content = content[size_before:]
            text = content.decode(errors="replace")
            lines.append(f"--- {path}")
            for line in text.splitlines()[-_TAIL:]:
                lines.append(f"  {line}")
        return "\n".join(lines)

    def _stop(self) -> None:
        self._supervisor.stop()
        self._record.unlink(missing_ok=True)

    def _own_endpoints(self) -> set[Endpoint]:
        """What the running programs listen on."""
        if not self.is_up:
            return set()
        return {(host, port) for host, port in self._recorded().get("endpoints", [])}

    def _restart_reason(self) -> str | None:
        """Why the running programs have to be replaced; None when they can stay."""
        if self._recorded().get("identity") != self._identity():
            return "Settings or packages changed"
        failed = []
        for program in self._supervisor.programs():
            if program.state == "FATAL":
                failed.append(program.name)
        if failed:
            names = " and ".join(failed)
            return f"{names} was given up"
        return None

    def _identity(self) -> str:
        """A hash of all that the programs are started with."""
        environment = self.settings.service_environment(self._environ)
        ours = {}
        for name, value in environment.items():
            if name.startswith("HEADRACE_"):
                ours[name] = value
        supervisor_conf = configuration(self.settings, Path(), Path())
        parts = [supervisor_conf, ours, venv.identity()]
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _recorded(self) -> dict[str, Any]:
        try:
            recorded = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(recorded, dict):
            return {}
        return recorded

    def _lock(self) -> AbstractContextManager[None]:
        """Allows one up or down of a run folder at a time."""
        return exclusive(self.settings.run / "lock", advice=OTHER_RUN_FOLDER)
