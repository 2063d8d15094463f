"""The real serving process and gateways on free ports over one store of trained models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.processes import ROOT, child, free_port, wait_http

IMAGE_PATH = "/v1/models/mnist_cnn:predict"
PICTURE_PATH = "/v1/models/picture:predict"
QUIET = {"HEADRACE_ACCESS_LOG": "0", "HEADRACE_METRICS": "0"}


@dataclass(frozen=True, slots=True)
class Gateway:
    pid: int
    http: int
    grpc: int


@dataclass(frozen=True, slots=True)
class Stack:
    """``default`` is a gateway with default settings, ``quiet`` one without log and metrics."""

    store: Path
    serving_pid: int
    rest: int
    grpc: int
    default: Gateway
    quiet: Gateway


def ensure_store(work: Path) -> Path:
    """A store with the configured models; trains with quick settings what is missing."""
    store = Path(os.environ.get("HEADRACE_STORE", ROOT / "models")).resolve()
    subprocess.run(
        [sys.executable, "-m", "trainer", "ensure"],
        cwd=ROOT,
        check=True,
        env={**os.environ, "HEADRACE_STORE": str(store)},
    )
    return store


def with_picture(store: Path, work: Path) -> Path:
    """A store of our own: the trained mnist_cnn and the picture model."""
    own = work / "store"
    (own / "picture").mkdir(parents=True)
    subprocess.run(
        [sys.executable, "-m", "benchmarks.picture", str(own / "picture" / "1")],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=300,
    )
    (own / "mnist_cnn").symlink_to(store / "mnist_cnn")
    write_model_list(own, ("mnist_cnn", "picture"))
    return own


def write_model_list(store: Path, names: Iterable[str]) -> None:
    lines = ["model_config_list {"]
    for name in names:
        path = f"/models/{name}"
        lines.append(
            f'  config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}'
        )
    lines.append("}\n")
    (store / "multimodel.config").write_text("\n".join(lines))


def image_body(images: int = 1) -> bytes:
    """28x28 images as clients send them: six digits a pixel, four fifths of the pixels zero, as in
    MNIST."""
    return json.dumps({"instances": _image().tolist() * images}).encode()


def image_request() -> bytes:
    """The same image as a PredictRequest."""
    from headrace.protocol import messages, tensors

    request = messages.PredictRequest()
    request.model_spec.name = "mnist_cnn"
    request.inputs["image"].CopyFrom(tensors.to_proto(_image().astype(np.float32)))
    return bytes(request.SerializeToString())


def serve_arguments(store: Path, port_file: Path) -> list[str]:
    return [
        "-m",
        "headrace",
        "serve",
        "--port=auto",
        "--rest_api_port=auto",
        f"--port_file={port_file}",
        f"--models_root={store}",
        f"--model_config_file={store / 'multimodel.config'}",
    ]


@contextmanager
def stack(store: Path, work: Path) -> Iterator[Stack]:
    port_file = work / "serving.json"
    log = work / "serving.log"
    with ExitStack() as exits:
        serving = exits.enter_context(child(serve_arguments(store, port_file), log=log))
        ports = wait_ports(port_file, serving.poll)
        wait_http(ports["rest"], IMAGE_PATH.split(":")[0], process=serving, log=log)
        default = exits.enter_context(gateway(store, work, ports))
        quiet = exits.enter_context(gateway(store, work, ports, env=QUIET))
        yield Stack(store, serving.pid, ports["rest"], ports["grpc"], default, quiet)


@contextmanager
def gateway(
    store: Path, work: Path, ports: Mapping[str, int], *, env: Mapping[str, str] | None = None
) -> Iterator[Gateway]:
    http, grpc = free_port(), free_port()
    log = work / f"gateway-{http}.log"
    environ = {
        "HEADRACE_HTTP_PORT": str(http),
        "HEADRACE_GRPC_PORT": str(grpc),
        "HEADRACE_UPSTREAM_REST": f"http://127.0.0.1:{ports['rest']}",
        "HEADRACE_UPSTREAM_GRPC": f"127.0.0.1:{ports['grpc']}",
        "HEADRACE_MODEL_CONFIG_FILE": str(store / "multimodel.config"),
        **(env or {}),
    }
    with child(["-m", "gateway"], log=log, env=environ) as process:
        wait_http(http, "/readyz", process=process, log=log)
        yield Gateway(process.pid, http, grpc)


def wait_ports(
    port_file: Path, poll: Callable[[], int | None], *, timeout_s: float = 60.0
) -> dict[str, int]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if port_file.exists():
            return {name: int(port) for name, port in json.loads(port_file.read_text()).items()}
        if poll() is not None:
            raise RuntimeError("serving ended before its ports were open")
        time.sleep(0.01)
    raise RuntimeError(f"serving wrote no {port_file} in {timeout_s} s")


def _image() -> np.ndarray:
    rng = np.random.default_rng(0)
    is_blank = rng.random(784) < 0.8
    pixels = rng.random(784).round(6)
    return np.where(is_blank, 0.0, pixels).reshape(1, 28, 28, 1)
