"""The stack in containers: what each verb of `make` does over `docker compose`."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from deploy.alone import alone
from deploy.compose import engine
from deploy.compose.choice import ROOT
from deploy.compose.settings import Settings, check_serving, compose_command, with_pip
from deploy.local.stack import OTHERWISE, is_settled, readiness
from deploy.preflight import UNTOUCHED, Door, Endpoint, check_ports, check_settings
from deploy.terminal import Step, Stop, say

# Lines of a log shown when something failed.
_TAIL = 20
# The gateway's ports in its container, and what chooses where they are published.
_PORT_VARIABLES = {8000: "HEADRACE_HTTP_PORT", 8001: "HEADRACE_GRPC_PORT"}
# A container that ended this often within one start is not going to come up by being started again.
_ENDS = 3


class Stack:
    """One project of `docker compose`, running or not, with ``serving`` as gpu, cpu or embedded."""

    def __init__(self, settings: Settings, serving: str = "") -> None:
        self.settings = settings
        self.serving = serving or _remembered(settings)
        self._command = compose_command(self.serving)

    @property
    def is_up(self) -> bool:
        return bool(self._ask("ps", "--quiet", "gateway"))

    @property
    def gateway(self) -> str:
        """The REST door's address on this machine, whatever port the engine gave it; empty when
        there is none."""
        door = self._door(8000)
        return f"http://{door}" if door else ""

    @property
    def grpc(self) -> str:
        return self._door(8001)

    @property
    def where_logs_are(self) -> str:
        return "make logs"

    def check(self) -> None:
        """Stop, before anything is touched, over settings and ports that a start would fail
        over."""
        self._refuse_another_folders()
        project = self._resolved()
        gateway = project["services"]["gateway"]
        given = {name: value for name, value in gateway["environment"].items() if value is not None}
        check_settings(self.settings.environment, given)
        check_serving(self.settings.environment)
        doors = [
            Door(_PORT_VARIABLES[port["target"]], port["host_ip"], int(port["published"]))
            for port in gateway["ports"]
            # Else the engine chooses one.
            if port.get("published")
        ]
        check_ports(doors, own=self._own_endpoints(), low_ports=True)

    def up(self) -> None:
        with self._alone():
            self.check()
            hand_over(self.settings.store, self.settings.uid, self.settings.gid)
            environ = with_pip(self.settings)
            self._build(environ)
            self._train_what_is_missing(environ)
            self._start(environ)

    def down(self) -> None:
        self._refuse_another_folders()
        with self._alone():
            self._run("down", "--remove-orphans")
            self.settings.chosen.unlink(missing_ok=True)

    def status(self) -> bool:
        """Print the containers and what the gateway says of the models; True when it is ready."""
        self._refuse_another_folders()
        if not self._ask("ps", "--all", "--quiet"):
            say("Nothing runs; `make up` starts it.")
            return False
        self._run(
            "ps", "--all", "--format", "table {{.Service}}\t{{.Image}}\t{{.Status}}\t{{.Ports}}"
        )
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
        self._run("logs", "--tail", "50", *(["--follow"] if follow else []), check=False)

    def reload(self) -> None:
        """Make the user's list live; a broken list changes nothing."""
        self._need_up()
        self._run("run", "--rm", "--no-deps", "versions", "reload")

    def train(self, *words: str) -> None:
        """As `trainer train`, in the trainer's container, whose image is built from the code as it
        is now."""
        self._refuse_another_folders()
        hand_over(self.settings.store, self.settings.uid, self.settings.gid)
        self._build(with_pip(self.settings), "trainer")
        self.trainer("train", *words)

    def tensorboard(self, *words: str) -> None:
        """The curves are in the trainer's volume, so TensorBoard runs in its image; it is published
        on this machine."""
        self._refuse_another_folders()
        port = _port_of(words)
        published = ["--publish", f"127.0.0.1:{port}:{port}"]
        options = [
            "-m",
            "tensorboard.main",
            "--logdir",
            "/cache/runs",
            "--port",
            port,
            *words,
            "--host",
            "0.0.0.0",
        ]
        say(f"TensorBoard will answer at http://127.0.0.1:{port}; Ctrl-C ends it.")
        self.trainer(*options, entrypoint="python", options=published)

    def trainer(self, *words: str, entrypoint: str = "", options: Sequence[str] = ()) -> None:
        """A one-off command in the trainer's container."""
        entry = ["--entrypoint", entrypoint] if entrypoint else []
        command = ["run", "--rm", "--no-deps", *options, *entry, "trainer", *words]
        self._run(*command, environ=with_pip(self.settings))

    def versions(self, *words: str) -> None:
        """promote, rollback or gc, in a container that may edit the user's list of models."""
        self._need_up()
        with lent(self.settings.config, self.settings.uid, self.settings.gid):
            self._run("run", "--rm", "--no-deps", "versions", *words)

    def _need_up(self) -> None:
        self._refuse_another_folders()
        if not self.is_up:
            raise Stop("Nothing runs; `make up` starts the stack.")

    def _refuse_another_folders(self) -> None:
        """Stop over containers of this project's name that were started from another checkout: they
        are not ours."""
        project = self.settings.project
        for folder in engine.folders_of(project):
            if Path(folder).resolve() == ROOT:
                continue
            if Path(folder).is_dir():
                end = "`make down` there ends them"
            else:
                end = (
                    f"that folder is gone; `docker compose --project-name {project} down` ends them"
                )
            raise Stop(
                f"The containers of the project {project} belong to {folder}: {end}.\n"
                f"COMPOSE_PROJECT_NAME={project}-2 gives this folder a project of its own."
            )

    def _resolved(self) -> dict[str, Any]:
        """The project as compose understands its files with these settings."""
        done = self._call("config", "--format", "json")
        if done.returncode:
            raise Stop(
                "docker compose cannot read the project with these "
                f"settings:\n{_tail(done.stderr)}\n{UNTOUCHED}"
            )
        project: dict[str, Any] = json.loads(done.stdout)
        return project

    def _own_endpoints(self) -> set[Endpoint]:
        """Where the running gateway's ports are published."""
        published = (self._published(port) for port in _PORT_VARIABLES)
        return {(host.strip("[]"), int(number)) for host, number in published if number}

    def _build(self, environ: Mapping[str, str], *services: str) -> None:
        log = self.settings.folder / "build.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [
            *self._command[:2],
            "--progress",
            "plain",
            *self._command[2:],
            "build",
            *services,
        ]
        with Step("Building the images", "the images are built") as step, log.open("w") as file:
            with subprocess.Popen(
                command,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    file.write(line)
                    step.detail(line.strip())
            if process.returncode:
                raise Stop(
                    f"The images could not be built ({log} has all of "
                    f"it):\n{_tail(log.read_text())}"
                )

    def _train_what_is_missing(self, environ: Mapping[str, str]) -> None:
        say("      Training the models that have no version yet ...")
        began = time.monotonic()
        self._run("up", "--no-log-prefix", "--no-build", "trainer", environ=environ)
        code = self._exit_code("trainer")
        if code != 0:
            raise Stop(
                f"The trainer ended with exit code {code}; what it said stands above. Nothing "
                "else was started.\n"
                "Mend that and run make up again: models that have a version are not trained again."
            )
        say(f"   ok the models are there ({time.monotonic() - began:.1f} s)")

    def _start(self, environ: Mapping[str, str]) -> None:
        was_up = self.is_up
        with Step("Starting serving and gateway", "ready") as step:
            try:
                self._start_containers(environ, step)
                self._wait_until_ready(step)
            except BaseException:
                # Nothing half-started stays behind.
                if not was_up:
                    self._call("down", "--remove-orphans")
                raise
        self.settings.folder.mkdir(parents=True, exist_ok=True)
        self.settings.chosen.write_text(self.serving + "\n")

    def _start_containers(self, environ: Mapping[str, str], step: Step) -> None:
        """Waits as the files say: serving's health, then the gateway. An end without end is not
        waited for."""
        # The trainer has just ended well: it need not run again, which the conditions would make it
        # do.
        words = [
            "up",
            "--detach",
            "--no-deps",
            "--no-build",
            "--remove-orphans",
            "serving",
            "gateway",
        ]
        with tempfile.TemporaryFile("w+") as told:
            process = subprocess.Popen(
                [*self._command, *words],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
            )
            try:
                while process.poll() is None:
                    step.detail("waiting for serving to load its models")
                    self._refuse_endless_restarts()
                    time.sleep(0.3)
            finally:
                process.terminate()
                process.wait()
            if process.returncode:
                told.seek(0)
                raise Stop(
                    "docker compose could not start the "
                    f"containers:\n{_tail(told.read())}\n{self._last_words()}"
                )

    def _refuse_endless_restarts(self) -> None:
        for container in self._ask("ps", "--all", "--quiet", "serving", "gateway").split():
            done = subprocess.run(
                ["docker", "inspect", "--format", "{{.RestartCount}} {{.Name}}", container],
                capture_output=True,
                text=True,
            )
            count, _, name = done.stdout.strip().partition(" ")
            if count.isdigit() and int(count) >= _ENDS:
                raise Stop(
                    f"{name.lstrip('/')} keeps ending. Its last words:\n{self._last_words()}"
                )

    def _wait_until_ready(self, step: Step) -> None:
        limit = self.settings.start_timeout_s
        deadline = time.monotonic() + limit
        while True:
            ready, body = readiness(self.gateway)
            if ready:
                return
            reason = str(body.get("reason") or "the gateway does not answer yet")
            step.detail(reason)
            self._refuse_endless_restarts()
            if time.monotonic() > deadline:
                longer = "" if is_settled(reason) else "\nHEADRACE_START_TIMEOUT_S gives it longer."
                raise Stop(f"Not ready after {limit:g} s: {reason}.\n{self._last_words()}{longer}")
            time.sleep(0.2)

    def _last_words(self) -> str:
        return _tail(self._ask("logs", "--no-color", "--tail", str(_TAIL), "serving", "gateway"))

    def _door(self, port: int) -> str:
        host, number = self._published(port)
        if not number:
            return ""
        return f"{'127.0.0.1' if host in ('0.0.0.0', '[::]') else host}:{number}"

    def _published(self, port: int) -> tuple[str, str]:
        """Host and port on this machine of the gateway's ``port``; both empty when it has none."""
        told = self._ask("port", "gateway", str(port)).splitlines()
        if not told or told[0].endswith(":0"):
            return "", ""
        host, _, number = told[0].rpartition(":")
        return host, number

    def _exit_code(self, service: str) -> int:
        told = self._ask("ps", "--all", "--quiet", service).split()
        if not told:
            return -1
        code = subprocess.run(
            ["docker", "wait", told[0]], stdin=subprocess.DEVNULL, capture_output=True, text=True
        ).stdout
        return int(code.strip() or -1)

    def _ask(self, *words: str) -> str:
        done = self._call(*words)
        return done.stdout.strip() if done.returncode == 0 else ""

    def _call(
        self, *words: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *words],
            env=dict(environ or self.settings.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def _run(
        self, *words: str, environ: Mapping[str, str] | None = None, check: bool = True
    ) -> None:
        done = subprocess.run(
            [*self._command, *words],
            env=dict(environ or self.settings.environment),
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise Stop(
                f"docker compose {words[0]} ended with exit code {done.returncode}; what it said "
                "stands above."
            )

    def _alone(self) -> AbstractContextManager[None]:
        """One up or down of a run folder at a time."""
        return alone(self.settings.run / "lock", otherwise=OTHERWISE)


def hand_over(store: Path, uid: int, gid: int) -> None:
    """Root's containers run as another user, who must be able to write the store."""
    store.mkdir(parents=True, exist_ok=True)
    if os.getuid() != 0:
        return
    for path in (store, *store.rglob("*")):
        found = path.lstat()
        if (found.st_uid, found.st_gid) != (uid, gid):
            os.chown(path, uid, gid, follow_symlinks=False)


@contextmanager
def lent(file: Path, uid: int, gid: int) -> Iterator[None]:
    """Root's containers run as another user: the file is theirs meanwhile, its folder never."""
    found = file.stat()
    if os.getuid() == 0:
        os.chown(file, uid, gid)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.chown(file, found.st_uid, found.st_gid)


def _port_of(words: Sequence[str]) -> str:
    """What TensorBoard is told by --port N or --port=N; its own default without."""
    text = " ".join(words).replace("=", " ").split()
    return text[text.index("--port") + 1] if "--port" in text[:-1] else "6006"


def _remembered(settings: Settings) -> str:
    try:
        return settings.chosen.read_text().strip()
    except OSError:
        # Any will do to look at or end the project: the services have the same names.
        return "embedded"


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_TAIL:])
