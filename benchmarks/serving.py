"""The server's rows: what `headrace serve` takes for a call, beside a bare app that does the same
and no more."""

from __future__ import annotations

import json
import os
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import decoding
from benchmarks.forwarding import Measured, Side, in_turns, share
from benchmarks.grpc_load import drive_grpc
from benchmarks.load import Load, drive
from benchmarks.processes import child, free_port, rss_mb, wait_http
from benchmarks.stack import IMAGE_PATH, image_body, image_request, serve_arguments, wait_ports
from benchmarks.table import Row, paired_ratio

SECONDS = 1.5
CONNECTIONS = (1, 8, 64, 256)
STARTS = 5
THREE = ("half_plus_two", "linear_model", "mnist_cnn")
OFF = "--adaptive_batching=false"
BUSY = 32


@dataclass(frozen=True, slots=True)
class Served:
    pid: int
    rest: int
    grpc: int
    ready_s: float


def rows(store: Path, work: Path) -> Iterator[Row]:
    three = with_three(store, work)
    for part in (json_rows, grpc_rows, decoding.rows, start_rows):
        yield from part(three, work)
    yield from peer_url_rows(three, work)


def json_rows(store: Path, work: Path) -> Iterator[Row]:
    with (
        serve(store, work, "on") as on,
        serve(store, work, "off", OFF) as off,
        floor(store, work) as (bare, port),
    ):
        for connections in CONNECTIONS:
            got = in_turns(
                {
                    "floor": Side(bare, _driver(port, "/", connections)),
                    "off": Side(off.pid, _driver(off.rest, IMAGE_PATH, connections)),
                    "on": Side(on.pid, _driver(on.rest, IMAGE_PATH, connections)),
                }
            )
            yield from _json_rows(got, connections)
        yield Row("serving with three models, memory after the load", f"{rss_mb(on.pid):.0f} MB")


def _json_rows(got: dict[str, Measured], connections: int) -> Iterator[Row]:
    at, on, off = f"at {connections} connection{'s' * (connections > 1)}", got["on"], got["off"]
    if connections == 1:
        yield Row(
            f"bare ASGI app on uvicorn + one session run, CPU a request {at}", got["floor"].cpu
        )
        yield Row(f"serving, batching off, CPU a request {at}", off.cpu)
        ratio = paired_ratio(off.us, got["floor"].us)
        yield Row(
            f"serving, batching off : bare app, CPU a request {at}",
            f"{ratio:.2f}x",
            "<= 1.1x",
            ratio <= 1.1,
        )
    mark = 350 if connections == 64 else None
    figure = statistics.median(on.us)
    yield Row(
        f"serving as it comes, CPU a request {at}",
        on.cpu,
        f"<= {mark} us" if mark else "",
        figure <= mark if mark else None,
    )
    ratio = paired_ratio(on.us, off.us)
    most = 0.7 if connections >= 64 else None
    yield Row(
        f"batching on : off, CPU a request {at}",
        f"{ratio:.2f}x ({on.cpu} : {off.cpu})",
        f"<= {most}x" if most else "",
        ratio <= most if most else None,
    )
    least = 1.3 if connections >= 64 else 0.95 if connections == 1 else None
    yield share(f"batching on : off, requests a second {at}", on, off, least)
    failed = sum(load.failed for measured in got.values() for load in measured.loads)
    yield Row(f"answers other than 200 {at}", str(failed), "0", failed == 0)


def grpc_rows(store: Path, work: Path) -> Iterator[Row]:
    request, port, log = image_request(), free_port(), work / "grpc-floor.log"

    def load(port: int) -> Callable[[], Load]:
        return lambda: drive_grpc(port, request, under_way=BUSY, seconds=SECONDS)

    arguments = ["-m", "benchmarks.grpc_floor", str(port), str(mnist(store))]
    with (
        serve(store, work, "grpc") as on,
        serve(store, work, "grpc-off", OFF) as off,
        child(arguments, log=log) as bare,
    ):
        got = in_turns(
            {
                "floor": Side(bare.pid, load(port)),
                "off": Side(off.pid, load(off.grpc)),
                "on": Side(on.pid, load(on.grpc)),
            }
        )
    what = f"CPU a gRPC call with {BUSY} under way"
    yield Row(f"bare gRPC echo + one session run, {what}", got["floor"].cpu)
    yield Row(f"serving as it comes, {what}", got["on"].cpu)
    ratio = paired_ratio(got["off"].us, got["floor"].us)
    yield Row("serving, batching off : bare echo + run, gRPC", f"{ratio:.2f}x")
    ratio = paired_ratio(got["on"].us, got["floor"].us)
    yield Row(
        "serving as it comes : bare echo + run, gRPC", f"{ratio:.2f}x", "<= 1.5x", ratio <= 1.5
    )
    failed = sum(load.failed for measured in got.values() for load in measured.loads)
    yield Row("failed gRPC calls", str(failed), "0", failed == 0)


def start_rows(store: Path, work: Path) -> Iterator[Row]:
    """From the start of the process until all three models are AVAILABLE, nothing asked of it
    meanwhile but that."""
    times, idle = [], []
    for i in range(STARTS):
        with serve(store, work, f"start{i}") as served:
            times.append(served.ready_s)
            idle.append(rss_mb(served.pid))
    took, held = statistics.median(times), statistics.median(idle)
    yield Row(
        "headrace serve, start to three models AVAILABLE", f"{took:.2f} s", "<= 1.5 s", took <= 1.5
    )
    yield Row(
        "headrace serve, idle memory with three models", f"{held:.0f} MB", "<= 420 MB", held <= 420
    )


def peer_url_rows(store: Path, work: Path) -> Iterator[Row]:
    """Any server of TensorFlow Serving's REST that runs already, with a model mnist_cnn, beside
    ours."""
    url = os.environ.get("PEER_URL", "")
    if not url:
        yield Row("a running server beside ours (PEER_URL=http://host:port)", "none was given")
        return
    peer = urlsplit(url)
    if not peer.hostname or not peer.port:
        raise SystemExit(f"PEER_URL={url}: http://host:port is wanted")
    host, port = peer.hostname, peer.port
    with serve(store, work, "beside") as ours:
        for connections, mark in ((1, 1.4), (8, 1.4), (64, 2.7)):
            # Its process is not ours to look into: no CPU time of it.
            got = in_turns(
                {
                    "peer": Side(ours.pid, _driver(port, IMAGE_PATH, connections, host=host)),
                    "ours": Side(ours.pid, _driver(ours.rest, IMAGE_PATH, connections)),
                }
            )
            failed = sum(load.failed for load in got["peer"].loads)
            what = f"requests a second at {connections} connections, ours : the server at PEER_URL"
            if failed:
                yield Row(what, f"{failed} of its answers were not 200")
            else:
                yield share(what, got["ours"], got["peer"], mark)


@contextmanager
def serve(store: Path, work: Path, name: str, *flags: str) -> Iterator[Served]:
    port_file, log = work / f"{name}.json", work / f"{name}.log"
    started = time.perf_counter()
    with child([*serve_arguments(store, port_file), *flags], log=log) as process:
        ports = wait_ports(port_file, process.poll)
        for model in THREE:
            _wait_available(ports["rest"], model)
        yield Served(process.pid, ports["rest"], ports["grpc"], time.perf_counter() - started)


@contextmanager
def floor(store: Path, work: Path) -> Iterator[tuple[int, int]]:
    port, log = free_port(), work / "floor.log"
    with ExitStack() as exits:
        process = exits.enter_context(
            child(["-m", "benchmarks.floor", str(port), str(mnist(store))], log=log)
        )
        wait_http(port, "/", process=process, log=log)
        yield process.pid, port


def mnist(store: Path) -> Path:
    return max((store / "mnist_cnn").glob("[0-9]*"), key=lambda folder: int(folder.name))


def with_three(store: Path, work: Path) -> Path:
    """A store of the three models alone, whatever else is trained: its figures are told of
    three."""
    own = work / "three"
    own.mkdir()
    for name in THREE:
        (own / name).symlink_to(store / name)
    entries = [
        f'config {{ name: "{n}" base_path: "/models/{n}" model_platform: "tensorflow" }}'
        for n in THREE
    ]
    (own / "multimodel.config").write_text("model_config_list {\n" + "\n".join(entries) + "\n}\n")
    return own


def _wait_available(port: int, model: str, *, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/v1/models/{model}", timeout=5
            ) as answer:
                if json.load(answer)["model_version_status"][0]["state"] == "AVAILABLE":
                    return
        except OSError:
            pass  # not open yet, or not known yet
        time.sleep(0.005)
    raise RuntimeError(f"{model} did not become AVAILABLE")


def _driver(
    port: int, path: str, connections: int, *, host: str = "127.0.0.1"
) -> Callable[[], Load]:
    body = image_body()
    return lambda: drive(port, path, body, connections=connections, seconds=SECONDS, host=host)
