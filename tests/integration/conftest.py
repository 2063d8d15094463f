"""A real `headrace serve` and a real gateway as child processes, on free ports, over toy models
known by head."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.forks import Forked, start_module

ROOT = Path(__file__).parents[2]
MODELS = ("asserts", "half_plus_two", "ident_string", "mnist_cnn", "slow", "two_in_two_out")


def wait_for(condition: Callable[[], Any], *, within_s: float, what: str) -> Any:
    """The first true value of the condition; transport errors on the way count as not yet."""
    end = time.monotonic() + within_s
    while True:
        with contextlib.suppress(requests.ConnectionError, requests.Timeout, FileNotFoundError):
            if value := condition():
                return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {within_s} s")
        time.sleep(0.01)


@dataclass
class Child:
    """A process of the project with its ports and its log."""

    arguments: list[str]
    folder: Path
    name: str
    port_file: Path
    environ: dict[str, str] = field(default_factory=dict)
    process: Forked | None = None

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text()

    @property
    def ports(self) -> dict[str, int]:
        return dict(json.loads(self.port_file.read_text()))

    def start(self) -> Child:
        self.port_file.unlink(missing_ok=True)
        plain = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        log = self.folder / f"{self.name}.log"
        self.process = start_module(*self.arguments, log=log, environ={**plain, **self.environ})
        try:
            wait_for(
                lambda: self.port_file.exists() or self._dead(),
                within_s=60,
                what=f"{self.name} opens its ports",
            )
        except AssertionError as e:
            self.kill()
            raise AssertionError(f"{e}\n{self.log}") from None
        return self

    def keep_ports(self, grpc: str, rest: str) -> None:
        """Started again it listens where it did."""
        flags = {
            f"{grpc}=auto": f"{grpc}={self.ports['grpc']}",
            f"{rest}=auto": f"{rest}={self.ports['rest']}",
        }
        self.arguments = [flags.get(argument, argument) for argument in self.arguments]

    def _dead(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}\n{self.log}")
        return False

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, within_s: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(within_s)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)


@dataclass
class Stack:
    """Store, serving and gateway; ``http`` and ``grpc`` are the gateway's addresses, ``direct``
    serving's REST."""

    folder: Path
    serving: Child
    gateway: Child

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def config(self) -> Path:
        return self.store / "multimodel.config"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.gateway.ports['http']}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.gateway.ports['grpc']}"

    @property
    def direct(self) -> str:
        return f"http://127.0.0.1:{self.serving.ports['rest']}"

    def predict(self, model: str, body: Any, **more: Any) -> requests.Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return requests.post(
            f"{self.http}/v1/models/{model}:predict", data=data, timeout=30, **more
        )

    def ready(self, query: str = "") -> bool:
        return requests.get(f"{self.http}/readyz{query}", timeout=5).status_code == 200

    def heal(self, *models: str) -> None:
        """Both up on the ports they had, serving these models in the versions they came in."""
        assert self.serving.process is not None and self.gateway.process is not None
        self.serving.signal(signal.SIGCONT)
        self.write_config(listed(*models))
        for child in (self.serving, self.gateway):
            if child.process is not None and child.process.poll() is not None:
                child.start()
        for model in models:
            wait_for(
                lambda m=model: self.ready(f"?model={m}"), within_s=30, what=f"{model} is ready"
            )

    def write_config(self, text: str) -> None:
        aside = self.config.with_name(".aside")
        aside.write_text(text)
        aside.replace(self.config)

    def publish(self, model: str, source: Path, version: int) -> None:
        """A version that appears by rename, as the trainer publishes."""
        aside = self.store / model / ".aside"
        shutil.copytree(source, aside)
        aside.rename(self.store / model / str(version))


def listed(*names: str, more: str = "") -> str:
    rows = [
        f'config {{ name: "{n}" base_path: "/models/{n}" model_platform: "tensorflow"{more} }}'
        for n in names
    ]
    return "model_config_list {\n" + "\n".join(rows) + "\n}\n"


@contextlib.contextmanager
def running(
    folder: Path,
    models: Path,
    names: tuple[str, ...],
    *,
    flags: tuple[str, ...] = (),
    **environ: str,
) -> Iterator[Stack]:
    """``flags`` are serving's, ``environ`` the gateway's settings."""
    store = folder / "store"
    store.mkdir()
    for name in names:
        shutil.copytree(models / name, store / name)
    (store / "multimodel.config").write_text(listed(*names))
    serving = Child([*_serve(store, folder), *flags], folder, "serving", folder / "serving.json")
    stack = Stack(folder, serving, Child(["gateway"], folder, "gateway", folder / "gateway.json"))
    try:
        serving.start()
        serving.keep_ports("--port", "--rest_api_port")
        stack.gateway.environ = {
            "HEADRACE_HTTP_PORT": "0",
            "HEADRACE_GRPC_PORT": "0",
            "HEADRACE_PORT_FILE": str(folder / "gateway.json"),
            "HEADRACE_UPSTREAM_REST": stack.direct,
            "HEADRACE_UPSTREAM_GRPC": f"127.0.0.1:{serving.ports['grpc']}",
            "HEADRACE_MODEL_CONFIG_FILE": str(stack.config),
            **{f"HEADRACE_{k}": v for k, v in environ.items()},
        }
        stack.gateway.start()
        wait_for(stack.ready, within_s=30, what="the gateway is ready")
        yield stack
    finally:
        with contextlib.suppress(ProcessLookupError):
            if serving.process is not None:
                serving.signal(signal.SIGCONT)
        stack.gateway.kill()
        serving.kill()


def _serve(store: Path, folder: Path) -> list[str]:
    return [
        "headrace",
        "serve",
        f"--models_root={store}",
        f"--model_config_file={store / 'multimodel.config'}",
        "--model_config_file_poll_wait_seconds=1",
        "--file_system_poll_wait_seconds=1",
        "--bind_address=127.0.0.1",
        "--port=auto",
        "--rest_api_port=auto",
        f"--port_file={folder / 'serving.json'}",
    ]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, contract_models: Path) -> Iterator[Stack]:
    """One stack for the tests that only ask."""
    with running(tmp_path_factory.mktemp("stack"), contract_models, MODELS, TIMEOUT_S="10") as made:
        yield made
