"""What the system tests hold in their hands: one project of `docker compose`, and a steady load on
it."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import requests
from docker.models.containers import Container

from deploy.compose import compose_settings
from deploy.compose.compose_settings import compose_command
from deploy.compose.container_stack import ContainerStack

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "headrace-system"
SERVICES = ("trainer", "serving", "gateway")
CALL_TIMEOUT_S = (
    4  # the gateway's deadline for a call to the backend in these tests; 30 s by default
)


def wait_for(condition: Callable[[], Any], *, within_s: float, what: str) -> Any:
    """The first true value of the condition; a connection that fails on the way counts as not
    yet."""
    end = time.monotonic() + within_s
    while True:
        try:
            if value := condition():
                return value
        except requests.RequestException:
            pass
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {within_s} s")
        time.sleep(0.05)


@dataclass
class Compose:
    """One project of `docker compose`, with a store and a model list of its own and ports that the
    engine chose."""

    client: docker.DockerClient
    folder: Path
    environ: dict[str, str]

    @property
    def store(self) -> Path:
        return self.folder / "models"

    @property
    def config(self) -> Path:
        return self.folder / "workspace/multimodel.config"

    def stack(self, **more: str) -> ContainerStack:
        """What `make` works with; ``more`` are variables."""
        return ContainerStack(
            compose_settings.from_environment(self.environ | more, dotenv=self.folder / "no.env"),
            "embedded",
        )

    def run(self, *words: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        """`docker compose WORDS` as a user calls it, with what `make` gives it; ``more`` are
        variables."""
        environ = compose_settings.with_pip(self.stack().settings) | more
        command = [*compose_command("embedded"), *words]
        done = subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if check and done.returncode:
            raise AssertionError(
                f"docker compose {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def containers(self, service: str) -> list[Container]:
        labels = [f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={service}"]
        found = self.client.containers.list(
            all=True, filters={"label": [*labels, "com.docker.compose.oneoff=False"]}
        )
        return sorted(found, key=lambda container: container.name or "")

    def container(self, service: str) -> Container:
        (found,) = self.containers(service)
        return found

    def address(self, container: Container | None = None, port: int = 8000) -> str:
        found = container or self.container("gateway")
        found.reload()
        (binding, *_) = found.ports[f"{port}/tcp"]
        return f"{binding['HostIp']}:{binding['HostPort']}"

    @property
    def url(self) -> str:
        return f"http://{self.address()}"

    def half_plus_two(self, *, timeout_s: float = 10) -> requests.Response:
        url = f"{self.url}/v1/models/half_plus_two:predict"
        return requests.post(url, json={"instances": [1.0, 2.0, 5.0]}, timeout=timeout_s)

    def ready(self) -> bool:
        return requests.get(f"{self.url}/readyz", timeout=5).status_code == 200

    def running(self) -> dict[str, str]:
        """Which container each service is, and since when: the same as long as nobody touched
        it."""
        found = {service: self.container(service) for service in ("serving", "gateway")}
        return {
            service: f"{container.id} {container.attrs['State']['StartedAt']}"
            for service, container in found.items()
        }

    def predicts(self) -> bool:
        answer = self.half_plus_two()
        return answer.status_code == 200 and answer.json() == {"predictions": [2.5, 3.0, 4.5]}

    def heal(self) -> None:
        """As it was: what is missing is started, and everything is well before the next test."""
        up = ("up", "--detach", "--no-build", "--no-deps", "serving", "gateway")
        # It gives up at once on a serving that a test left unhealthy, and is asked again.
        wait_for(
            lambda: self.run(*up, check=False).returncode == 0,
            within_s=60,
            what="docker compose up",
        )
        wait_for(
            lambda: self.ready() and self.predicts(), within_s=60, what="the stack is well again"
        )

    def versions(self, model: str) -> list[int]:
        return sorted(
            int(path.name) for path in (self.store / model).iterdir() if path.name.isdigit()
        )


@dataclass
class Load:
    """Predictions at a steady rate from several threads; every outcome is kept."""

    url: str
    per_second: float
    threads: int = 4
    statuses: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._over = threading.Event()
        self._began = time.monotonic()
        self._running = [
            threading.Thread(target=self._send, daemon=True) for _ in range(self.threads)
        ]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._running:
            thread.join()
        self.seconds = time.monotonic() - self._began

    def _send(self) -> None:
        pause = self.threads / self.per_second
        due = time.monotonic()
        with requests.Session() as session:
            while not self._over.wait(max(0.0, due - time.monotonic())):
                due += pause
                try:
                    answer = session.post(self.url, json={"instances": [1.0, 2.0, 5.0]}, timeout=10)
                    self.statuses.append(answer.status_code)
                    if answer.status_code == 200 and answer.json() != {
                        "predictions": [2.5, 3.0, 4.5]
                    }:
                        self.errors.append(answer.text)
                except requests.RequestException as error:
                    self.errors.append(repr(error))
