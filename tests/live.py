"""The few ways tests speak to a server, and a ``headrace serve`` in a process of its own, on free
ports."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tests.forks import Forked, start_module

ROOT = Path(__file__).parents[1]
START_S = 60.0  # a loaded machine; idle it takes one


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    closed: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """Speaks to a server that is there, whosever it is."""

    def __init__(self, host: str = "127.0.0.1", rest_port: int = 0, grpc_port: int = 0) -> None:
        self.host, self.rest_port, self.grpc_port = host, rest_port, grpc_port
        self._channel: grpc.Channel | None = None

    def states(self, model: str) -> dict[int, str]:
        """The state of every version ever seen."""
        answer = self.get(f"/v1/models/{model}")
        rows = answer.json["model_version_status"] if answer.status == 200 else ()
        return {int(row["version"]): row["state"] for row in rows}

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def predict(self, model: str, body: object) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", f"/v1/models/{model}:predict", body=data)

    def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            *(f"{k}: {v}" for k, v in (headers or {}).items()),
        ]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return self.send("\r\n".join([*lines, "", ""]).encode() + body, method=method)

    def send(self, raw: bytes, *, method: str = "GET") -> Answer:
        """One exchange over a connection of its own, byte for byte as given."""
        with socket.create_connection((self.host, self.rest_port), timeout=30) as connection:
            connection.sendall(raw)
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            body = response.read()
            return Answer(response.status, dict(response.getheaders()), body, response.will_close)

    @property
    def channel(self) -> grpc.Channel:
        if self._channel is None:
            self._channel = grpc.insecure_channel(
                f"{self.host}:{self.grpc_port}", options=[("grpc.max_receive_message_length", -1)]
            )
        return self._channel

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()


class LiveServer(Caller):
    """Stopped with the block, and killed if it does not stop."""

    Launcher = Callable[..., "LiveServer"]

    def __init__(self, folder: Path, flags: Mapping[str, object], *, forked: bool = True) -> None:
        """``forked``: from a process that has imported it. Where the start itself is looked at, it
        is not."""
        super().__init__()
        self.log = folder / "serve.log"
        self.port_file = folder / "ports.json"
        given = {
            "port": "auto",
            "rest_api_port": "auto",
            "port_file": self.port_file,
            "drain_seconds": 2,
            **flags,
        }
        command = [
            sys.executable,
            "-m",
            "headrace",
            "serve",
            *(f"--{k}={_text(v)}" for k, v in given.items()),
        ]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        if forked:
            self.process: subprocess.Popen[bytes] | Forked = start_module(
                *command[2:], log=self.log, environ=environ
            )
        else:
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(
                    command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environ
                )

    @classmethod
    @contextmanager
    def launcher(cls, folder: Path, *, forked: bool = True) -> Iterator[Launcher]:
        with ExitStack() as running:

            def launch(**flags: object) -> LiveServer:
                own = folder / f"server-{time.monotonic_ns()}"
                own.mkdir()
                server = cls(own, flags, forked=forked)
                running.callback(server.close)
                server.wait_until_open()
                return server

            yield launch

    def wait_until_open(self) -> None:
        until(self._is_open, START_S, self.said)
        ports = json.loads(self.port_file.read_text())
        self.rest_port, self.grpc_port = ports["rest"], ports["grpc"]

    def wait_until_available(self, *models: str, timeout_s: float = START_S) -> None:
        until(
            lambda: all(set(self.states(m).values()) == {"AVAILABLE"} for m in models),
            timeout_s,
            self.said,
        )

    def rss_kib(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def terminate(self, timeout_s: float = 30.0) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def close(self) -> None:
        super().close()
        if self.process.poll() is None:
            try:
                self.terminate(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _is_open(self) -> bool:
        assert self.process.poll() is None, f"the server ended:\n{self.said()}"
        return self.port_file.exists()


def until(
    condition: Callable[[], bool], timeout_s: float, describe: Callable[[], str] = str
) -> None:
    """Waits for a condition; fails, with what ``describe`` says, when it does not come true in
    time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s\n{describe()[-8000:]}"
        time.sleep(0.02)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class LiveGateway(Caller):
    """A gateway in front of a server; ``settings`` are those of the environment, without their
    prefix."""

    def __init__(
        self, folder: Path, behind: LiveServer, config: Path, settings: Mapping[str, object]
    ) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "gateway.log"
        port_file = folder / "gateway.json"
        given = {
            "HTTP_PORT": 0,
            "GRPC_PORT": 0,
            "PORT_FILE": port_file,
            "UPSTREAM_REST": f"http://127.0.0.1:{behind.rest_port}",
            "UPSTREAM_GRPC": f"127.0.0.1:{behind.grpc_port}",
            "MODEL_CONFIG_FILE": config,
            "REFRESH_S": 0.1,
            "DRAIN_S": 1,
            **settings,
        }
        plain = {
            name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")
        }
        environ = {
            **plain,
            "PYTHONPATH": str(ROOT),
            **{f"HEADRACE_{name}": str(v) for name, v in given.items()},
        }
        self.process = start_module("gateway", log=self.log, environ=environ)
        until(lambda: self._is_open(port_file), START_S, self.said)
        ports = json.loads(port_file.read_text())
        self.rest_port, self.grpc_port = ports["http"], ports["grpc"]
        until(lambda: self.get("/readyz").status == 200, START_S, self.said)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def close(self) -> None:
        super().close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _is_open(self, port_file: Path) -> bool:
        assert self.process.poll() is None, f"the gateway ended:\n{self.said()}"
        return port_file.exists()
