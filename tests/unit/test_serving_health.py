"""deploy/compose/health/serving.sh: what it calls healthy, asked of real sockets. It runs in TF
Serving's own image."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "deploy/compose/health/serving.sh"
ROW = (
    '{{\n "model_version_status": [\n  {{\n   "version": "1",\n   "state": "{state}"\n  }}\n '
    "]\n}}\n"
)


class Handler(BaseHTTPRequestHandler):
    states: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        state = self.states.get(self.path.removeprefix("/v1/models/"))
        self.send_response(200 if state else 404)
        self.end_headers()
        body = ROW.format(state=state) if state else '{ "error": "Servable not found" }'
        self.wfile.write(body.rstrip("\n").encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.states = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "multimodel.config"
    entries = "".join(
        f'  config {{\n    name: "{n}"\n    base_path: "/models/{n}"\n  }}\n'
        for n in ("half", "mnist")
    )
    path.write_text("model_config_list {\n" + entries + "}\n")
    return path


def ask(config: Path, port: int) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", SCRIPT, config, str(port)], capture_output=True, text=True, timeout=20
    )
    return done.returncode, done.stdout


def test_one_available_model_is_enough(server: ThreadingHTTPServer, config: Path) -> None:
    Handler.states = {"half": "LOADING", "mnist": "AVAILABLE"}
    assert ask(config, server.server_port) == (0, "mnist is AVAILABLE\n")


@pytest.mark.parametrize("state", ["LOADING", "END", "START", "UNLOADING"])
def test_no_available_model_is_not_healthy(
    server: ThreadingHTTPServer, config: Path, state: str
) -> None:
    Handler.states = {"half": state, "mnist": state}
    assert ask(config, server.server_port) == (1, "no model is AVAILABLE; asked: half mnist\n")


def test_unknown_models_are_not_healthy(server: ThreadingHTTPServer, config: Path) -> None:
    assert ask(config, server.server_port)[0] == 1


def test_nobody_listening_is_not_healthy(config: Path) -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        assert ask(config, free.getsockname()[1])[0] == 1


def test_an_empty_or_missing_list_is_not_healthy(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    Handler.states = {"half": "AVAILABLE"}
    (tmp_path / "empty.config").write_text("model_config_list {\n}\n")
    assert ask(tmp_path / "empty.config", server.server_port)[0] == 1
    assert ask(tmp_path / "none.config", server.server_port)[0] == 1
