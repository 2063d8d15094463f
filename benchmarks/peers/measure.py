"""headrace serve beside what else serves a Keras model from Python, each peer in an environment of
its own.

An environment is made in the project's cache when it is first needed, from the peer's pinned
requirements; TensorFlow comes into it from the project's own. A peer that cannot be installed or
started here is a row that says so.
"""

from __future__ import annotations

import json
import os
import signal
import site
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import table
from benchmarks.load import Load, drive
from benchmarks.processes import ROOT, cpu_s, free_port
from benchmarks.serving import mnist, serve, with_three
from benchmarks.stack import IMAGE_PATH, image_body
from benchmarks.table import Row, at_most, paired_ratio

HERE = Path(__file__).resolve().parent
ROUNDS = 3
SECONDS = 2.0
CONNECTIONS = (1, 8, 64)
START_S = 120.0
# Wrk counts a request that takes two seconds as failed; a slow peer may have a few of them.
_LATE = 0.02


@dataclass(frozen=True, slots=True)
class Peer:
    """``command`` takes the port, the model folder and a work folder, and returns a program of the
    environment with its arguments."""

    name: str
    path: str
    body: bytes
    command: Callable[[int, Path, Path], list[str]]

    @property
    def requirements(self) -> Path:
        return HERE / f"{self.name}.txt"


class Unable(Exception):
    """Why a peer is not measured."""


def rows(store: Path, work: Path) -> Iterator[Row]:
    three = with_three(store, work)
    model = mnist(store).resolve()
    best_us: dict[int, float] = {}
    ours_us: dict[int, list[float]] = {connections: [] for connections in CONNECTIONS}
    with serve(three, work, "ours") as ours:
        for peer in peers():
            try:
                with started(peer, model, work) as (pid, port):
                    for connections in CONNECTIONS:
                        sides = {
                            "ours": (ours.pid, ours.rest, IMAGE_PATH, image_body()),
                            "peer": (pid, port, peer.path, peer.body),
                        }
                        us = _in_turns(sides, connections)
                        ours_us[connections] += us["ours"]
                        peer_us = statistics.median(us["peer"])
                        best_us[connections] = min(peer_us, best_us.get(connections, peer_us))
                        yield _row(peer, connections, us)
            except Unable as error:
                yield Row(f"ours beside {_title(peer)}", f"could not be measured here: {error}")
    for connections, peer_us in best_us.items():
        ratio = statistics.median(ours_us[connections]) / peer_us
        what = f"CPU a request at {_count(connections)}, ours : the best of them"
        yield at_most(what, f"{ratio:.2f}x", ratio, 0.25, "x")


def _row(peer: Peer, connections: int, us: Mapping[str, list[float]]) -> Row:
    ratio = paired_ratio(us["ours"], us["peer"])
    medians = f"{statistics.median(us['ours']):.0f} : {statistics.median(us['peer']):.0f} us"
    what = f"CPU a request at {_count(connections)}, ours : {_title(peer)}"
    return Row(what, f"{ratio:.2f}x ({medians})")


def _count(connections: int) -> str:
    return "1 connection" if connections == 1 else f"{connections} connections"


def peers() -> tuple[Peer, ...]:
    body = image_body()
    image = json.loads(body)["instances"]
    flat = [value for row in image[0] for cell in row for value in cell]
    tensor = {"name": "image", "shape": [1, 28, 28, 1], "datatype": "FP32", "data": flat}
    return (
        Peer(
            "fastapi",
            "/predict",
            body,
            lambda port, model, _: ["python", "fastapi_keras.py", str(port), str(model)],
        ),
        Peer(
            "litserve",
            "/predict",
            body,
            lambda port, model, _: ["python", "litserve_api.py", str(port), str(model)],
        ),
        Peer(
            "bentoml",
            "/predict",
            body,
            lambda port, *_: [
                "bentoml",
                "serve",
                "bentoml_service:Digits",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
            ],
        ),
        Peer(
            "mlserver",
            "/v2/models/mnist_cnn/infer",
            json.dumps({"inputs": [tensor]}).encode(),
            lambda port, _, folder: ["mlserver", "start", str(_mlserver_folder(folder, port))],
        ),
    )


@contextmanager
def started(peer: Peer, model: Path, work: Path) -> Iterator[tuple[int, int]]:
    """The peer's process and port; all processes it made end with the block."""
    environment = _environment(peer)
    port, folder, log = free_port(), work / peer.name, work / f"{peer.name}.log"
    folder.mkdir()
    program, *rest = peer.command(port, model, folder)
    variables = {
        **os.environ,
        "MODEL_FOLDER": str(model),
        "PYTHONPATH": str(HERE),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "BENTOML_DO_NOT_TRACK": "true",
        "BENTOML_HOME": str(folder),
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(environment / "bin" / program), *rest],
            cwd=HERE,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        _wait_for_an_answer(peer, port, process, log)
        yield process.pid, port
    finally:
        _end(process)


def _wait_for_an_answer(peer: Peer, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            load = drive(port, peer.path, peer.body, connections=1, seconds=1)
        except (OSError, subprocess.SubprocessError):
            time.sleep(0.5)
            continue
        if load.requests and not load.failed:
            return
        time.sleep(0.5)
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise Unable(f"it did not answer: {' '.join(last)[:200]}")


def _in_turns(
    sides: Mapping[str, tuple[int, int, str, bytes]], connections: int
) -> dict[str, list[float]]:
    us: dict[str, list[float]] = {name: [] for name in sides}
    for (name, (pid, port, path, body)), counts in table.turns(sides.items(), ROUNDS):
        before = _tree_cpu_s(pid)
        load: Load = drive(port, path, body, connections=connections, seconds=SECONDS)
        if not load.requests or load.failed > load.requests * _LATE:
            late = f"{load.failed} of {load.requests} answers were late or not 200"
            raise Unable(f"{late} at {connections} connections")
        if counts:
            us[name].append((_tree_cpu_s(pid) - before) * 1e6 / load.requests)
    return us


def _tree_cpu_s(pid: int) -> float:
    """Of the process and all that it started: several peers do the work in children."""
    return cpu_s(pid) + sum(_tree_cpu_s(child) for child in _children(pid))


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        # A thread may end while it is read.
        with suppress(FileNotFoundError, ProcessLookupError):
            children += map(int, (task / "children").read_text().split())
    return children


def _end(process: subprocess.Popen[bytes]) -> None:
    """The whole session the peer was started in."""
    for number, wait_s in ((signal.SIGTERM, 15), (signal.SIGKILL, 15)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and _is_alive(process):
            time.sleep(0.05)
    process.wait()


def _is_alive(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _environment(peer: Peer) -> Path:
    cache = Path(os.environ.get("HEADRACE_CACHE", ROOT / ".cache")).resolve()
    folder = cache / "peers" / peer.name
    # Written last, so it marks a complete environment.
    installed = folder / "installed.txt"
    requirements = peer.requirements.read_text()
    if installed.exists() and installed.read_text() == requirements:
        return folder
    uv = str(Path(sys.executable).with_name("uv"))
    python = str(folder / "bin" / "python")
    make_environment = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)]
    install = [uv, "pip", "install", "--quiet", "--python", python, "-r", str(peer.requirements)]
    try:
        for command in (make_environment, install):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        reason = lines[-1][:200] if lines else type(error).__name__
        raise Unable(f"not installed: {reason}") from error
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "tensorflow-of-the-project.pth").write_text(
        "\n".join(site.getsitepackages()) + "\n"
    )
    installed.write_text(requirements)
    return folder


def _mlserver_folder(folder: Path, port: int) -> Path:
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "debug": False,
        "parallel_workers": 0,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    runtime = {"name": "mnist_cnn", "implementation": "mlserver_runtime.Digits"}
    (folder / "model-settings.json").write_text(json.dumps(runtime))
    return folder


def _title(peer: Peer) -> str:
    return ", ".join(peer.requirements.read_text().replace("==", " ").split("\n")).strip(", ")
