"""The gateway's rows: what it adds to a call, compared with bare apps and relays, the server called
directly, and a gateway as tutorials write it."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import inside, table
from benchmarks.grpc_load import drive_grpc
from benchmarks.load import Load, drive
from benchmarks.processes import child, cpu_s, free_port, rss_mb, wait_http
from benchmarks.stack import (
    IMAGE_PATH,
    PICTURE_PATH,
    QUIET,
    Stack,
    gateway,
    image_body,
    image_request,
    stack,
    with_picture,
)
from benchmarks.table import (
    Row,
    at_least,
    at_most,
    none_failed,
    paired_difference,
    paired_ratio,
)

ROUNDS = 5
SECONDS = 3.0
# Concurrent connections, and concurrent gRPC calls.
BUSY = 32

_NPY = "application/x-npy"
# Images in one body, and connections that send it.
_BODIES = ((1, BUSY), (8, 8), (32, 4), (256, 2))


@dataclass(frozen=True, slots=True)
class Side:
    """A process to measure and the load on it. ``behind`` is the process it calls, whose CPU time
    is measured too."""

    pid: int
    load: Callable[[], Load]
    behind: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """CPU time a request of the process and of the one behind it, and the load, round by round."""

    us: list[float] = field(default_factory=list)
    behind_us: list[float] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)

    @property
    def cpu(self) -> str:
        return f"{statistics.median(self.us):.0f} us"

    @property
    def both_us(self) -> list[float]:
        return [us + behind_us for us, behind_us in zip(self.us, self.behind_us, strict=True)]

    @property
    def per_second(self) -> float:
        return statistics.median(load.per_second for load in self.loads)

    @property
    def p50_ms(self) -> list[float]:
        return [load.p50_s * 1e3 for load in self.loads]

    @property
    def failed(self) -> int:
        return sum(load.failed for load in self.loads)


def rows(trained: Path, work: Path) -> Iterator[Row]:
    store = with_picture(trained, work)
    with stack(store, work) as real:
        for part in (
            json_rows,
            latency_rows,
            peer_rows,
            picture_rows,
            grpc_rows,
            protocol_rows,
            inside.rows,
        ):
            yield from part(real, work)
        yield Row("gateway, memory after the load", f"{rss_mb(real.default.pid):.0f} MB")
        yield Row(
            "serving with two models, memory after the load", f"{rss_mb(real.serving_pid):.0f} MB"
        )


def json_rows(real: Stack, work: Path) -> Iterator[Row]:
    body = image_body()
    bare_port = free_port()
    log = work / "bare.log"
    with child(["-m", "benchmarks.bare", str(bare_port)], log=log) as process:
        wait_http(bare_port, "/", process=process, log=log)
        default_load = _load(real.default.http, IMAGE_PATH, body)
        measured = in_turns(
            {
                "bare": Side(process.pid, _load(bare_port, "/", body)),
                "quiet": Side(real.quiet.pid, _load(real.quiet.http, IMAGE_PATH, body)),
                "default": Side(real.default.pid, default_load, behind=real.serving_pid),
                "direct": Side(real.serving_pid, _load(real.rest, IMAGE_PATH, body)),
            }
        )
    bare, quiet = measured["bare"], measured["quiet"]
    default, direct = measured["default"], measured["direct"]
    what = f"bare ASGI app that reads and checks the body, CPU a request at {BUSY} connections"
    yield Row(what, bare.cpu)
    yield Row("gateway without log and metrics, CPU a request", quiet.cpu)
    added_us = paired_difference(quiet.us, bare.us)
    what = "gateway without log and metrics - bare app"
    yield at_most(what, f"{added_us:.0f} us", added_us, 90, " us")
    yield Row("gateway as it comes, CPU a request", default.cpu)
    added_us = paired_difference(default.us, bare.us)
    yield at_most("gateway as it comes - bare app", f"{added_us:.0f} us", added_us, 160, " us")
    behind_us = statistics.median(default.behind_us)
    yield Row("serving behind the gateway, CPU a request", f"{behind_us:.0f} us")
    yield Row("serving called directly, CPU a request", direct.cpu)
    both_us = statistics.median(default.both_us)
    yield Row("gateway and serving together, CPU a request", f"{both_us:.0f} us")
    what = f"requests a second at {BUSY} connections, gateway : serving called directly"
    yield throughput_ratio(what, default, direct, 0.5)
    yield none_failed("answers other than 200 in all of these", count_failed(measured))


def latency_rows(real: Stack, work: Path) -> Iterator[Row]:
    body = image_body()
    measured = in_turns(
        {
            "gateway": Side(
                real.default.pid, _load(real.default.http, IMAGE_PATH, body, connections=1)
            ),
            "direct": Side(real.serving_pid, _load(real.rest, IMAGE_PATH, body, connections=1)),
        }
    )
    gateway_ms = measured["gateway"].p50_ms
    direct_ms = measured["direct"].p50_ms
    added = paired_ratio(gateway_ms, direct_ms) - 1
    medians = f"{statistics.median(gateway_ms):.2f} ms : {statistics.median(direct_ms):.2f} ms"
    what = "p50 that the gateway adds at 1 connection, in p50s of serving called directly"
    yield at_most(what, f"{added:.2f}x ({medians})", added, 0.8, "x")


def peer_rows(real: Stack, work: Path) -> Iterator[Row]:
    """The gateway beside one that follows the tutorials: FastAPI, pydantic, httpx."""
    body = image_body()
    backend = f"http://127.0.0.1:{real.rest}"
    for kind, what, limit in (
        ("shared", "tutorial gateway (FastAPI, pydantic, one shared httpx.AsyncClient)", 8.0),
        ("each", "the same with a client for every call", None),
    ):
        port = free_port()
        log = work / f"tutorial-{kind}.log"
        with child(["-m", "benchmarks.peers.tutorial", str(port), backend, kind], log=log) as peer:
            wait_http(port, "/health", process=peer, log=log)
            measured = in_turns(
                {
                    "gateway": Side(real.default.pid, _load(real.default.http, IMAGE_PATH, body)),
                    "peer": Side(peer.pid, _load(port, "/predict", body)),
                }
            )
        yield Row(f"{what}, CPU a request", measured["peer"].cpu)
        what = f"requests a second, gateway : {what}"
        yield throughput_ratio(what, measured["gateway"], measured["peer"], limit)


def picture_rows(real: Stack, work: Path) -> Iterator[Row]:
    """One 224x224x3 picture of floats as npy, 602 KB: the gateway beside a relay that checks
    nothing."""
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).random((1, 224, 224, 3), np.float32))
    body = file.getvalue()
    relay_port = free_port()
    sink_port = free_port()
    log = work / "relay.log"
    relay_command = ["-m", "benchmarks.relay", "http", str(relay_port), f"127.0.0.1:{sink_port}"]
    with (
        child(["-m", "benchmarks.bare", str(sink_port), "unread"], log=log) as sink_process,
        child(relay_command, log=log) as relay_process,
    ):
        wait_http(sink_port, "/", process=sink_process, log=log)
        wait_http(relay_port, "/", process=relay_process, log=log)
        gateway_load = _load(
            real.default.http, PICTURE_PATH, body, connections=4, content_type=_NPY
        )
        relay_load = _load(relay_port, "/", body, connections=4, content_type=_NPY)
        measured = in_turns(
            {
                "gateway": Side(real.default.pid, gateway_load),
                "relay": Side(relay_process.pid, relay_load),
            }
        )
    through, relay = measured["gateway"], measured["relay"]
    yield Row("bare HTTP relay of one 224x224x3 picture as npy, CPU a request", relay.cpu)
    yield Row("gateway, the same picture checked, CPU a request", through.cpu)
    ratio = paired_ratio(through.us, relay.us)
    yield at_most("gateway : bare relay, npy", f"{ratio:.2f}x", ratio, 3, "x")
    yield none_failed("answers other than 200", through.failed)


def grpc_rows(real: Stack, work: Path) -> Iterator[Row]:
    request = image_request()
    port = free_port()
    log = work / "grpc-relay.log"

    def load(port: int) -> Callable[[], Load]:
        return lambda: drive_grpc(port, request, under_way=BUSY, seconds=SECONDS)

    relay_command = ["-m", "benchmarks.relay", "grpc", str(port), f"127.0.0.1:{real.grpc}"]
    with child(relay_command, log=log) as relay_process:
        measured = in_turns(
            {
                "quiet": Side(real.quiet.pid, load(real.quiet.grpc)),
                "default": Side(real.default.pid, load(real.default.grpc)),
                "relay": Side(relay_process.pid, load(port)),
            }
        )
    quiet, default, relay = measured["quiet"], measured["default"], measured["relay"]
    what = f"bare gRPC relay (grpc.aio server and channel), CPU a call with {BUSY} under way"
    yield Row(what, relay.cpu)
    yield Row("gateway without log and metrics, CPU a gRPC call", quiet.cpu)
    yield Row("gateway as it comes, CPU a gRPC call", default.cpu)
    ratio = paired_ratio(quiet.us, relay.us)
    yield Row("gateway without log and metrics : bare relay, gRPC", f"{ratio:.2f}x")
    ratio = paired_ratio(default.us, relay.us)
    what = "gateway as it comes : bare relay, gRPC"
    yield at_most(what, f"{ratio:.2f}x", ratio, 1.3, "x")
    yield none_failed("failed calls", count_failed(measured))


def protocol_rows(real: Stack, work: Path) -> Iterator[Row]:
    """REST calls forwarded unchanged, or as tensors over gRPC: CPU of gateway and serving together,
    by body size."""
    ports = {"rest": real.rest, "grpc": real.grpc}
    rest_env = {**QUIET, "HEADRACE_UPSTREAM_PROTOCOL": "rest"}
    grpc_env = {**QUIET, "HEADRACE_UPSTREAM_PROTOCOL": "grpc"}
    with (
        gateway(real.store, work, ports, env=rest_env) as over_rest,
        gateway(real.store, work, ports, env=grpc_env) as over_grpc,
    ):
        for images, connections in _BODIES:
            body = image_body(images)
            rest_load = _load(over_rest.http, IMAGE_PATH, body, connections=connections)
            grpc_load = _load(over_grpc.http, IMAGE_PATH, body, connections=connections)
            measured = in_turns(
                {
                    "rest": Side(over_rest.pid, rest_load, behind=real.serving_pid),
                    "grpc": Side(over_grpc.pid, grpc_load, behind=real.serving_pid),
                }
            )
            count = "1 image" if images == 1 else f"{images} images"
            yield from _protocol_rows(f"{count} as JSON ({len(body) / 1e3:.0f} KB)", measured)


def _protocol_rows(what: str, measured: Mapping[str, Measured]) -> Iterator[Row]:
    for protocol, side in measured.items():
        both_us = statistics.median(side.both_us)
        behind_us = statistics.median(side.behind_us)
        yield Row(
            f"{what}, passed on by {protocol}, CPU of gateway + serving a request",
            f"{both_us:.0f} us ({side.cpu} + {behind_us:.0f} us)",
        )
    rest, grpc = measured["rest"], measured["grpc"]
    ratio = paired_ratio(grpc.both_us, rest.both_us)
    yield Row(f"{what}, by grpc : by rest, CPU of both", f"{ratio:.2f}x")
    yield throughput_ratio(f"{what}, requests a second, by grpc : by rest", grpc, rest, None)
    yield none_failed(f"{what}, answers other than 200", count_failed(measured))


def in_turns(sides: Mapping[str, Side]) -> dict[str, Measured]:
    measured = {name: Measured() for name in sides}
    for (name, side), counts in table.turns(sides.items(), ROUNDS):
        before_s = cpu_s(side.pid)
        behind_before_s = _cpu_s(side.behind)
        load = side.load()
        if not counts:
            continue
        # A client that connects for every call may not finish one in this time.
        requests = max(load.requests, 1)
        measured[name].us.append((cpu_s(side.pid) - before_s) * 1e6 / requests)
        behind_s = _cpu_s(side.behind) - behind_before_s
        measured[name].behind_us.append(behind_s * 1e6 / requests)
        measured[name].loads.append(load)
    return measured


def throughput_ratio(what: str, above: Measured, below: Measured, limit: float | None) -> Row:
    above_per_second = [load.per_second for load in above.loads]
    below_per_second = [max(load.per_second, 0.1) for load in below.loads]
    ratio = paired_ratio(above_per_second, below_per_second)
    figure = f"{ratio:.2f}x ({above.per_second:.0f} : {below.per_second:.0f})"
    return at_least(what, figure, ratio, limit, "x")


def count_failed(measured: Mapping[str, Measured]) -> int:
    return sum(side.failed for side in measured.values())


def _cpu_s(pid: int | None) -> float:
    return 0.0 if pid is None else cpu_s(pid)


def _load(
    port: int,
    path: str,
    body: bytes,
    *,
    connections: int = BUSY,
    content_type: str = "application/json",
) -> Callable[[], Load]:
    return lambda: drive(
        port, path, body, connections=connections, seconds=SECONDS, content_type=content_type
    )
