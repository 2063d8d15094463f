"""The stack in containers: what each command of `make` does, by `docker compose`."""

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

from deploy import readiness
from deploy.compose import engine
from deploy.compose.choice import ROOT
from deploy.compose.compose_settings import (
    ComposeSettings,
    check_serving,
    compose_command,
    with_pip,
)
from deploy.file_lock import exclusive
from deploy.local.local_settings import OTHER_RUN_FOLDER
from deploy.preflight import UNTOUCHED, Door, Endpoint, check_ports, check_settings
from deploy.terminal import Step, Stop, say

# Lines of a log shown when something failed.
_TAIL = 20
# The gateway's ports in its container, and the variables that choose where they are published.
_PORT_VARIABLES = {
    8000: "HEADRACE_HTTP_PORT",
    8001: "HEADRACE_GRPC_PORT",
}
# A container that ended this often within one start will not come up by being restarted.
_MAX_RESTARTS = 3


class ContainerStack:
    """One project of `docker compose`, running or not.

    ``serving`` is gpu, cpu or embedded; by default that of the last start.
    """

    def __init__(self, settings: ComposeSettings, serving: str | None = None) -> None:
        self.settings = settings
        self.serving = serving or _last_serving(settings)
        self._command = compose_command(self.serving)

    @property
    def is_up(self) -> bool:
        return bool(self._ask("ps", "--quiet", "gateway"))

    @property
    def was_started(self) -> bool:
        """Whether it was started and not stopped again."""
        return self.settings.serving_file.exists()

    @property
    def gateway(self) -> str | None:
        """The gateway's REST address, whatever port the engine gave it; None when not running."""
        address = self._address(8000)
        if address is None:
            return None
        return f"http://{address}"

    @property
    def grpc(self) -> str | None:
        return self._address(8001)

    @property
    def where_logs_are(self) -> str:
        return "make logs"

    def check(self) -> None:
        """Raise Stop over settings and ports with which a start would fail; touches nothing."""
        self._refuse_another_folders_project()
        gateway = self._resolved()["services"]["gateway"]
        environment = {}
        for name, value in gateway["environment"].items():
            if value is not None:
                environment[name] = value
        check_settings(self.settings.environment, environment)
        check_serving(self.settings.environment)

        doors = []
        for port in gateway["ports"]:
            # Where nothing is published, the engine chooses a free port.
            if port.get("published"):
                variable = _PORT_VARIABLES[port["target"]]
                doors.append(Door(variable, port["host_ip"], int(port["published"])))
        check_ports(doors, own=self._own_endpoints(), low_ports=True)

    def up(self) -> None:
        with self._lock():
            self.check()
            hand_over(self.settings.store, self.settings.uid, self.settings.gid)
            environ = with_pip(self.settings)
            self._build(environ)
            self._train_missing_models(environ)
            self._start(environ)

    def down(self) -> None:
        self._refuse_another_folders_project()
        with self._lock():
            self._run("down", "--remove-orphans")
            self.settings.serving_file.unlink(missing_ok=True)

    def status(self) -> bool:
        """Print the containers and the models; True when the gateway is ready."""
        self._refuse_another_folders_project()
        if not self._ask("ps", "--all", "--quiet"):
            say("Nothing runs; `make up` starts it.")
            return False
        columns = "table {{.Service}}\t{{.Image}}\t{{.Status}}\t{{.Ports}}"
        self._run("ps", "--all", "--format", columns)
        return readiness.print_status(self.gateway)

    def logs(self, *, follow: bool) -> None:
        words = ["logs", "--tail", "50"]
        if follow:
            words.append("--follow")
        self._run(*words, check=False)

    def reload(self) -> None:
        """Make the user's list of models live; a broken list changes nothing."""
        self._need_up()
        self._run("run", "--rm", "--no-deps", "versions", "reload")

    def train(self, *words: str) -> None:
        """`trainer train` in the trainer's container, with its image built anew."""
        self._refuse_another_folders_project()
        hand_over(self.settings.store, self.settings.uid, self.settings.gid)
        self._build(with_pip(self.settings), "trainer")
        self.trainer("train", *words)

    def tensorboard(self, *words: str) -> None:
        """TensorBoard in the trainer's image, since the curves are in the trainer's volume.

        It is published on this machine.
        """
        self._refuse_another_folders_project()
        port = _tensorboard_port(words)
        options = ["--publish", f"127.0.0.1:{port}:{port}", "--entrypoint", "python"]
        command = ["-m", "tensorboard.main", "--logdir", "/cache/runs", "--port", port]
        say(f"TensorBoard will answer at http://127.0.0.1:{port}; Ctrl-C ends it.")
        self.trainer(*command, *words, "--host", "0.0.0.0", options=options)

    def trainer(self, *words: str, options: Sequence[str] = ()) -> None:
        """A one-off command in the trainer's container; ``options`` are those of `compose run`."""
        command = ["run", "--rm", "--no-deps", *options, "trainer", *words]
        self._run(*command, environ=with_pip(self.settings))

    def versions(self, *words: str) -> None:
        """promote, rollback or gc, in a container that may edit the list of models."""
        self._need_up()
        with lent(self.settings.config, self.settings.uid, self.settings.gid):
            self._run("run", "--rm", "--no-deps", "versions", *words)

    def _need_up(self) -> None:
        self._refuse_another_folders_project()
        if not self.is_up:
            raise Stop("Nothing runs; `make up` starts the stack.")

    def _refuse_another_folders_project(self) -> None:
        """Raise Stop if another checkout started containers under this project's name."""
        project = self.settings.project
        for folder in engine.folders_of(project):
            if Path(folder).resolve() == ROOT:
                continue
            advice = (
                f"that folder is gone; `docker compose --project-name {project} down` ends them"
            )
            if Path(folder).is_dir():
                advice = "`make down` there ends them"
            raise Stop(
                f"The containers of the project {project} belong to {folder}: {advice}.\n"
                f"COMPOSE_PROJECT_NAME={project}-2 gives this folder a project of its own."
            )

    def _resolved(self) -> dict[str, Any]:
        """The project as compose understands its files with these settings."""
        config = self._call("config", "--format", "json")
        if config.returncode:
            raise Stop(
                "docker compose cannot read the project with these settings:\n"
                f"{_tail(config.stderr)}\n{UNTOUCHED}"
            )
        project: dict[str, Any] = json.loads(config.stdout)
        return project

    def _own_endpoints(self) -> set[Endpoint]:
        """Where the running gateway's ports are published."""
        endpoints = set()
        for port in _PORT_VARIABLES:
            endpoint = self._published(port)
            if endpoint is not None:
                endpoints.add(endpoint)
        return endpoints

    def _build(self, environ: Mapping[str, str], *services: str) -> None:
        log = self.settings.folder / "build.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        docker, compose, *files = self._command
        command = [docker, compose, "--progress", "plain", *files, "build", *services]
        with Step("Building the images", "the images are built") as step:
            code = _run_logged(command, environ, log, step)
            if code:
                text = _tail(log.read_text())
                raise Stop(f"The images could not be built ({log} has all of it):\n{text}")

    def _train_missing_models(self, environ: Mapping[str, str]) -> None:
        say("      Training the models that have no version yet ...")
        began = time.monotonic()
        self._run("up", "--no-log-prefix", "--no-build", "trainer", environ=environ)
        code = self._exit_code("trainer")
        if code != 0:
            raise Stop(
                f"The trainer ended with exit code {code}; its output is above. "
                "Nothing else was started.\n"
                "Mend that and run make up again: models that have a version are not trained again."
            )
        took_s = time.monotonic() - began
        say(f"   ok the models are there ({took_s:.1f} s)")

    def _start(self, environ: Mapping[str, str]) -> None:
        was_up = self.is_up
        with Step("Starting serving and gateway", "ready") as step:
            try:
                self._start_containers(environ, step)
                readiness.wait_until_ready(
                    lambda: self.gateway,
                    step,
                    timeout_s=self.settings.start_timeout_s,
                    stop_if_failing=self._refuse_endless_restarts,
                    last_words=self._last_words,
                )
            except BaseException:
                # Nothing may stay half started.
                if not was_up:
                    self._call("down", "--remove-orphans")
                raise
        self.settings.folder.mkdir(parents=True, exist_ok=True)
        self.settings.serving_file.write_text(self.serving + "\n")

    def _start_containers(self, environ: Mapping[str, str], step: Step) -> None:
        """Waits as the compose files say: for serving's health, then for the gateway."""
        # Without --no-deps, the trainer would run again, which has just succeeded.
        options = ["--detach", "--no-deps", "--no-build", "--remove-orphans"]
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [*self._command, "up", *options, "serving", "gateway"],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
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
                output.seek(0)
                raise Stop(
                    "docker compose could not start the containers:\n"
                    f"{_tail(output.read())}\n{self._last_words()}"
                )

    def _refuse_endless_restarts(self) -> None:
        containers = self._ask("ps", "--all", "--quiet", "serving", "gateway")
        for container in containers.split():
            inspect = subprocess.run(
                ["docker", "inspect", "--format", "{{.RestartCount}} {{.Name}}", container],
                capture_output=True,
                text=True,
            )
            count, _, name = inspect.stdout.strip().partition(" ")
            if count.isdigit() and int(count) >= _MAX_RESTARTS:
                name = name.lstrip("/")
                raise Stop(f"{name} keeps ending. Its last words:\n{self._last_words()}")

    def _last_words(self) -> str:
        logs = self._ask(
            "logs",
            "--no-color",
            "--tail",
            str(_TAIL),
            "serving",
            "gateway",
        )
        return _tail(logs)

    def _address(self, port: int) -> str | None:
        """Where the gateway's ``port`` is reached from this machine."""
        endpoint = self._published(port)
        if endpoint is None:
            return None
        host, number = endpoint
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1"
        if ":" in host:
            return f"[{host}]:{number}"
        return f"{host}:{number}"

    def _published(self, port: int) -> Endpoint | None:
        """Host and port on this machine of the gateway's ``port``."""
        lines = self._ask("port", "gateway", str(port)).splitlines()
        if not lines or lines[0].endswith(":0"):
            return None
        host, _, number = lines[0].rpartition(":")
        return host.strip("[]"), int(number)

    def _exit_code(self, service: str) -> int:
        containers = self._ask("ps", "--all", "--quiet", service).split()
        if not containers:
            return -1
        command = ["docker", "wait", containers[0]]
        wait = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return int(wait.stdout.strip() or -1)

    def _ask(self, *words: str) -> str:
        """What docker compose prints; "" when it fails."""
        answer = self._call(*words)
        if answer.returncode:
            return ""
        return answer.stdout.strip()

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
        compose = subprocess.run(
            [*self._command, *words],
            env=dict(environ or self.settings.environment),
            stdin=subprocess.DEVNULL,
        )
        if check and compose.returncode:
            raise Stop(
                f"docker compose {words[0]} ended with exit code {compose.returncode}; "
                "its output is above."
            )

    def _lock(self) -> AbstractContextManager[None]:
        """Allows one up or down of a run folder at a time."""
        return exclusive(self.settings.run / "lock", advice=OTHER_RUN_FOLDER)


def hand_over(store: Path, uid: int, gid: int) -> None:
    """Root's containers run as another user, who must be able to write the store."""
    store.mkdir(parents=True, exist_ok=True)
    if os.getuid() != 0:
        return
    for path in (store, *store.rglob("*")):
        status = path.lstat()
        if (status.st_uid, status.st_gid) != (uid, gid):
            os.chown(path, uid, gid, follow_symlinks=False)


@contextmanager
def lent(file: Path, uid: int, gid: int) -> Iterator[None]:
    """Root's containers run as another user, who owns the file meanwhile, but never its folder."""
    status = file.stat()
    if os.getuid() == 0:
        os.chown(file, uid, gid)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.chown(file, status.st_uid, status.st_gid)


def _run_logged(command: list[str], environ: Mapping[str, str], log: Path, step: Step) -> int:
    """Run the command, with its output in ``log`` and its last line on the terminal."""
    with (
        log.open("w") as file,
        subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            step.detail(line.strip())
    return process.returncode


def _tensorboard_port(words: Sequence[str]) -> str:
    """That of --port N or --port=N; without it, TensorBoard's own default."""
    options = " ".join(words).replace("=", " ").split()
    if "--port" in options[:-1]:
        return options[options.index("--port") + 1]
    return "6006"


def _last_serving(settings: ComposeSettings) -> str:
    try:
        return settings.serving_file.read_text().strip()
    except OSError:
        # Any will do to look at the project or stop it: the services have the same names.
        return "embedded"


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_TAIL:])
