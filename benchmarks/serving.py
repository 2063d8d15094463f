"""The server's rows: the cost of a call to `headrace serve`, beside a bare app that only runs the
model."""

from __future__ import annotations

import json
import os
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import decoding
from benchmarks.forwarding import Measured, Side, count_failed, in_turns, throughput_ratio
from benchmarks.grpc_load import drive_grpc
from benchmarks.load import Load, drive
from benchmarks.processes import child, free_port, rss_mb, wait_http
from benchmarks.stack import (
    IMAGE_PATH,
    image_body,
    image_request,
    serve_arguments,
    wait_ports,
    write_model_list,
)
from benchmarks.table import Row, at_most, none_failed, paired_ratio

SECONDS = 1.5
CONNECTIONS = (1, 8, 64, 256)
STARTS = 5
THREE = ("half_plus_two", "linear_model", "mnist_cnn")
NO_BATCHING = "--adaptive_batching=false"
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
        serve(store, work, "off", NO_BATCHING) as off,
        floor(store, work) as (floor_pid, floor_port),
    ):
        for connections in CONNECTIONS:
            measured = in_turns(
                {
                    "floor": Side(floor_pid, _load(floor_port, "/", connections)),
                    "off": Side(off.pid, _load(off.rest, IMAGE_PATH, connections)),
                    "on": Side(on.pid, _load(on.rest, IMAGE_PATH, connections)),
                }
            )
            at = "at 1 connection" if connections == 1 else f"at {connections} connections"
            if connections == 1:
                yield from _floor_rows(measured["floor"], measured["off"], at)
            yield from _batching_rows(measured["on"], measured["off"], connections, at)
            yield none_failed(f"answers other than 200 {at}", count_failed(measured))
        yield Row("serving with three models, memory after the load", f"{rss_mb(on.pid):.0f} MB")


def _floor_rows(floor: Measured, off: Measured, at: str) -> Iterator[Row]:
    yield Row(f"bare ASGI app on uvicorn + one session run, CPU a request {at}", floor.cpu)
    yield Row(f"serving, batching off, CPU a request {at}", off.cpu)
    ratio = paired_ratio(off.us, floor.us)
    what = f"serving, batching off : bare app, CPU a request {at}"
    yield at_most(what, f"{ratio:.2f}x", ratio, 1.1, "x")


def _batching_rows(on: Measured, off: Measured, connections: int, at: str) -> Iterator[Row]:
    most_us = 350 if connections == 64 else None
    median_us = statistics.median(on.us)
    yield at_most(f"serving as it comes, CPU a request {at}", on.cpu, median_us, most_us, " us")
    ratio = paired_ratio(on.us, off.us)
    figure = f"{ratio:.2f}x ({on.cpu} : {off.cpu})"
    most = 0.7 if connections >= 64 else None
    yield at_most(f"batching on : off, CPU a request {at}", figure, ratio, most, "x")
    least = {1: 0.95, 64: 1.3, 256: 1.3}.get(connections)
    yield throughput_ratio(f"batching on : off, requests a second {at}", on, off, least)


def grpc_rows(store: Path, work: Path) -> Iterator[Row]:
    request = image_request()
    floor_port = free_port()
    log = work / "grpc-floor.log"

    def load(port: int) -> Callable[[], Load]:
        return lambda: drive_grpc(port, request, under_way=BUSY, seconds=SECONDS)

    floor_command = ["-m", "benchmarks.grpc_floor", str(floor_port), str(mnist(store))]
    with (
        serve(store, work, "grpc") as on,
        serve(store, work, "grpc-off", NO_BATCHING) as off,
        child(floor_command, log=log) as floor_process,
    ):
        measured = in_turns(
            {
                "floor": Side(floor_process.pid, load(floor_port)),
                "off": Side(off.pid, load(off.grpc)),
                "on": Side(on.pid, load(on.grpc)),
            }
        )
    what = f"CPU a gRPC call with {BUSY} under way"
    floor_us = measured["floor"].us
    yield Row(f"bare gRPC echo + one session run, {what}", measured["floor"].cpu)
    yield Row(f"serving as it comes, {what}", measured["on"].cpu)
    ratio = paired_ratio(measured["off"].us, floor_us)
    yield Row("serving, batching off : bare echo + run, gRPC", f"{ratio:.2f}x")
    ratio = paired_ratio(measured["on"].us, floor_us)
    what = "serving as it comes : bare echo + run, gRPC"
    yield at_most(what, f"{ratio:.2f}x", ratio, 1.5, "x")
    yield none_failed("failed gRPC calls", count_failed(measured))


def start_rows(store: Path, work: Path) -> Iterator[Row]:
    """From the start of the process until all three models are AVAILABLE."""
    ready_s = []
    idle_mb = []
    for i in range(STARTS):
        with serve(store, work, f"start{i}") as served:
            ready_s.append(served.ready_s)
            idle_mb.append(rss_mb(served.pid))
    median_s = statistics.median(ready_s)
    what = "headrace serve, start to three models AVAILABLE"
    yield at_most(what, f"{median_s:.2f} s", median_s, 1.5, " s")
    median_mb = statistics.median(idle_mb)
    what = "headrace serve, idle memory with three models"
    yield at_most(what, f"{median_mb:.0f} MB", median_mb, 420, " MB")


def peer_url_rows(store: Path, work: Path) -> Iterator[Row]:
    """A running server with TensorFlow Serving's REST API and a model mnist_cnn, beside ours."""
    url = os.environ.get("PEER_URL", "")
    if not url:
        yield Row("a running server beside ours (PEER_URL=http://host:port)", "none was given")
        return
    peer = urlsplit(url)
    if not peer.hostname or not peer.port:
        raise SystemExit(f"PEER_URL={url}: expected http://host:port")
    with serve(store, work, "beside") as ours:
        for connections, limit in ((1, 1.4), (8, 1.4), (64, 2.7)):
            peer_load = _load(peer.port, IMAGE_PATH, connections, host=peer.hostname)
            measured = in_turns(
                {
                    # The CPU time of the peer is not known; only its load counts.
                    "peer": Side(ours.pid, peer_load),
                    "ours": Side(ours.pid, _load(ours.rest, IMAGE_PATH, connections)),
                }
            )
            what = f"requests a second at {connections} connections, ours : the server at PEER_URL"
            failed = measured["peer"].failed
            if failed:
                yield Row(what, f"{failed} of its answers were not 200")
            else:
                yield throughput_ratio(what, measured["ours"], measured["peer"], limit)


@contextmanager
def serve(store: Path, work: Path, name: str, *flags: str) -> Iterator[Served]:
    port_file = work / f"{name}.json"
    log = work / f"{name}.log"
    started = time.perf_counter()
    with child([*serve_arguments(store, port_file), *flags], log=log) as process:
        ports = wait_ports(port_file, process.poll)
        for model in THREE:
            _wait_available(ports["rest"], model)
        yield Served(process.pid, ports["rest"], ports["grpc"], time.perf_counter() - started)


@contextmanager
def floor(store: Path, work: Path) -> Iterator[tuple[int, int]]:
    port = free_port()
    log = work / "floor.log"
    command = ["-m", "benchmarks.floor", str(port), str(mnist(store))]
    with child(command, log=log) as process:
        wait_http(port, "/", process=process, log=log)
        yield process.pid, port


def mnist(store: Path) -> Path:
    return max((store / "mnist_cnn").glob("[0-9]*"), key=lambda folder: int(folder.name))


def with_three(store: Path, work: Path) -> Path:
    """A store with these three models and no others."""
    own = work / "three"
    own.mkdir()
    for name in THREE:
        (own / name).symlink_to(store / name)
    write_model_list(own, THREE)
    return own


def _wait_available(port: int, model: str, *, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/v1/models/{model}", timeout=5
            ) as response:
                if json.load(response)["model_version_status"][0]["state"] == "AVAILABLE":
                    return
        except OSError:
            # The port is not open yet, or the model is not known yet.
            pass
        time.sleep(0.005)
    raise RuntimeError(f"{model} did not become AVAILABLE")


def _load(port: int, path: str, connections: int, *, host: str = "127.0.0.1") -> Callable[[], Load]:
    body = image_body()
    return lambda: drive(port, path, body, connections=connections, seconds=SECONDS, host=host)
