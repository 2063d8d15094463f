"""The wheel without extras: the client and the command line need nothing of the server's or the
gateway's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# What the base dependencies do not bring; importing one of these is then a ModuleNotFoundError.
BLOCKED = [
    "uvicorn",
    "uvloop",
    "httptools",
    "fastapi",
    "starlette",
    "pydantic",
    "aiohttp",
    "prometheus_client",
]
BLOCKED += ["tensorflow", "keras", "tqdm", "gateway", "trainer", "headrace.server"]


def run(code: str, *more: str) -> subprocess.CompletedProcess[str]:
    block = f"import sys\nfor name in {[*BLOCKED, *more]}: sys.modules[name] = None\n"
    return subprocess.run(
        [sys.executable, "-c", block + code], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("url", "unneeded"),
    [("http://127.0.0.1:9", "grpc"), ("grpc://127.0.0.1:9", "requests")],
    ids=["REST without grpc", "gRPC without requests"],
)
def test_the_client_works_without_extras(url: str, unneeded: str) -> None:
    child = run(
        "from headrace import AsyncClient, Client\n"
        "from headrace.protocol.errors import Unavailable\n"
        f"AsyncClient({url!r})\n"
        f"try: Client({url!r}, timeout_s=5).status('half')\n"
        "except Unavailable as error: print(error)",
        unneeded,
    )
    assert child.stdout.startswith(f"cannot reach {url}: "), child.stderr


@pytest.mark.parametrize("command", ["predict", "status", "models", "check-config", "render"])
def test_commands_that_serve_nothing_work_without_extras(command: str, tmp_path: Path) -> None:
    arguments = {
        "predict": ["half", "--data", "[1]", "--url", "http://127.0.0.1:9"],
        "status": ["half", "--url", "grpc://127.0.0.1:9"],
        "models": ["--url", "http://127.0.0.1:9"],
        "check-config": ["/nowhere/models.config"],
        "render": ["--config", "/nowhere/models.config", "--store", str(tmp_path)],
    }[command]
    child = run(f"from headrace import cli; sys.exit(cli.main({[command, *arguments]}))")
    assert child.returncode == 1
    assert child.stderr.startswith("headrace: ")
    assert "Traceback" not in child.stderr
