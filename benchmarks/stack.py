"""The real serving process and gateway on free ports over one store of trained models."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.processes import ROOT, child, free_port, wait_http

IMAGE_PATH = "/v1/models/mnist_cnn:predict"


@dataclass(frozen=True, slots=True)
class Stack:
    serving_pid: int
    serving_port: int
    gateway_pid: int
    gateway_port: int


def ensure_store(work: Path) -> Path:
    """A store with the configured models; trains with quick settings what is missing."""
    store = Path(os.environ.get("HEADRACE_STORE", ROOT / "models")).resolve()
    subprocess.run(
        [os.sys.executable, "-m", "trainer", "ensure"],  # type: ignore[attr-defined]
        cwd=ROOT, check=True, env={**os.environ, "HEADRACE_STORE": str(store)},
    )  # fmt: skip
    return store


def image_body() -> bytes:
    """One 28x28 image as clients send it: six digits a pixel, four fifths of them zero, as MNIST's are."""
    rng = np.random.default_rng(0)
    pixels = np.where(rng.random(784) < 0.8, 0.0, rng.random(784).round(6)).reshape(1, 28, 28, 1)
    return json.dumps({"instances": pixels.tolist()}).encode()


def serve_arguments(store: Path, port_file: Path) -> list[str]:
    return [
        "-m", "headrace", "serve", "--port=auto", "--rest_api_port=auto", f"--port_file={port_file}",
        f"--models_root={store}", f"--model_config_file={store / 'multimodel.config'}",
    ]  # fmt: skip


@contextmanager
def stack(store: Path, work: Path) -> Iterator[Stack]:
    port_file = work / "serving.json"
    with ExitStack() as exits:
        serving = exits.enter_context(child(serve_arguments(store, port_file), log=work / "serving.log"))
        ports = wait_ports(port_file, serving.poll)
        wait_http(ports["rest"], IMAGE_PATH.split(":")[0], process=serving, log=work / "serving.log")
        http, grpc = free_port(), free_port()
        gateway = exits.enter_context(
            child(
                ["-m", "gateway"],
                log=work / "gateway.log",
                env={
                    "HEADRACE_HTTP_PORT": str(http),
                    "HEADRACE_GRPC_PORT": str(grpc),
                    "HEADRACE_UPSTREAM_REST": f"http://127.0.0.1:{ports['rest']}",
                    "HEADRACE_UPSTREAM_GRPC": f"127.0.0.1:{ports['grpc']}",
                    "HEADRACE_MODEL_CONFIG_FILE": str(store / "multimodel.config"),
                },
            )
        )
        wait_http(http, "/readyz", process=gateway, log=work / "gateway.log")
        yield Stack(serving.pid, ports["rest"], gateway.pid, http)


def wait_ports(port_file: Path, ended: object, *, timeout_s: float = 60.0) -> dict[str, int]:
    import time

    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if port_file.exists():
            return {name: int(port) for name, port in json.loads(port_file.read_text()).items()}
        if callable(ended) and ended() is not None:
            raise RuntimeError("serving ended before its ports were open")
        time.sleep(0.01)
    raise RuntimeError(f"serving wrote no {port_file} in {timeout_s} s")
