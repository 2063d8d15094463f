"""The gateway's rows: what it adds to a call, beside the floors below it, the bare server, and what
teams write."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
from benchmarks.table import Row, paired_difference, paired_ratio

ROUNDS = 5
SECONDS = 3.0
BUSY = 32  # connections, and gRPC calls under way

_NPY = "application/x-npy"


@dataclass(frozen=True, slots=True)
class Side:
    """Who is measured, and the load on it; ``behind`` is a process whose CPU is told beside."""

    pid: int
    load: Callable[[], Load]
    behind: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    us: list[float]
    behind_us: list[float]
    loads: list[Load]

    @property
    def cpu(self) -> str:
        return f"{statistics.median(self.us):.0f} us"

    @property
    def together(self) -> list[float]:
        """Its own CPU and that of the process behind."""
        return [a + b for a, b in zip(self.us, self.behind_us, strict=True)]

    @property
    def both(self) -> float:
        return statistics.median(self.together)

    @property
    def per_second(self) -> float:
        return statistics.median(load.per_second for load in self.loads)

    @property
    def p50_ms(self) -> list[float]:
        return [load.p50_s * 1e3 for load in self.loads]


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
    body, bare_port, log = image_body(), free_port(), work / "bare.log"

    def load(port: int, path: str = IMAGE_PATH) -> Callable[[], Load]:
        return lambda: drive(port, path, body, connections=BUSY, seconds=SECONDS)

    with child(["-m", "benchmarks.bare", str(bare_port)], log=log) as bare:
        wait_http(bare_port, "/", process=bare, log=log)
        got = in_turns(
            {
                "bare": Side(bare.pid, load(bare_port, "/")),
                "quiet": Side(real.quiet.pid, load(real.quiet.http)),
                "default": Side(real.default.pid, load(real.default.http), behind=real.serving_pid),
                "direct": Side(real.serving_pid, load(real.rest)),
            }
        )
    bare_, quiet, default, direct = got["bare"], got["quiet"], got["default"], got["direct"]
    yield Row(
        f"bare ASGI app that reads and checks the body, CPU a request at {BUSY} connections",
        bare_.cpu,
    )
    yield Row("gateway without log and metrics, CPU a request", quiet.cpu)
    more = paired_difference(quiet.us, bare_.us)
    yield Row(
        "gateway without log and metrics - bare app", f"{more:.0f} us", "<= 90 us", more <= 90
    )
    yield Row("gateway as it comes, CPU a request", default.cpu)
    more = paired_difference(default.us, bare_.us)
    yield Row("gateway as it comes - bare app", f"{more:.0f} us", "<= 160 us", more <= 160)
    yield Row(
        "serving behind the gateway, CPU a request",
        f"{statistics.median(default.behind_us):.0f} us",
    )
    yield Row("serving called directly, CPU a request", direct.cpu)
    yield Row("gateway and serving together, CPU a request", f"{default.both:.0f} us")
    yield share(
        f"requests a second at {BUSY} connections, gateway : serving called directly",
        default,
        direct,
        0.5,
    )
    failed = sum(load.failed for m in got.values() for load in m.loads)
    yield Row("answers other than 200 in all of these", str(failed), "0", failed == 0)


def latency_rows(real: Stack, work: Path) -> Iterator[Row]:
    body = image_body()
    got = in_turns(
        {
            "gateway": Side(
                real.default.pid,
                lambda: drive(real.default.http, IMAGE_PATH, body, connections=1, seconds=SECONDS),
            ),
            "direct": Side(
                real.serving_pid,
                lambda: drive(real.rest, IMAGE_PATH, body, connections=1, seconds=SECONDS),
            ),
        }
    )
    through, direct = got["gateway"].p50_ms, got["direct"].p50_ms
    added = statistics.median(a / b for a, b in zip(through, direct, strict=True)) - 1
    figure = (
        f"{added:.2f}x ({statistics.median(through):.2f} ms : {statistics.median(direct):.2f} ms)"
    )
    what = "p50 that the gateway adds at 1 connection, in p50s of serving called directly"
    yield Row(what, figure, "<= 0.8x", added <= 0.8)


def peer_rows(real: Stack, work: Path) -> Iterator[Row]:
    """The gateway beside one that follows the tutorials: FastAPI, pydantic, httpx."""
    body = image_body()
    backend = f"http://127.0.0.1:{real.rest}"
    for kind, what, mark in (
        ("shared", "tutorial gateway (FastAPI, pydantic, one shared httpx.AsyncClient)", 8.0),
        ("each", "the same with a client for every call", None),
    ):
        port, log = free_port(), work / f"tutorial-{kind}.log"
        with child(["-m", "benchmarks.peers.tutorial", str(port), backend, kind], log=log) as peer:
            wait_http(port, "/health", process=peer, log=log)
            got = in_turns(
                {
                    "gateway": Side(real.default.pid, _driver(real.default.http, IMAGE_PATH, body)),
                    "peer": Side(peer.pid, _driver(port, "/predict", body)),
                }
            )
        yield Row(f"{what}, CPU a request", got["peer"].cpu)
        yield share(f"requests a second, gateway : {what}", got["gateway"], got["peer"], mark)


def picture_rows(real: Stack, work: Path) -> Iterator[Row]:
    """One 224x224x3 picture of floats as npy, 602 KB: the gateway beside a relay that looks at
    nothing."""
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).random((1, 224, 224, 3), np.float32))
    body, port, sink, log = file.getvalue(), free_port(), free_port(), work / "relay.log"
    with (
        child(["-m", "benchmarks.bare", str(sink), "unread"], log=log) as end,
        child(["-m", "benchmarks.relay", "http", str(port), f"127.0.0.1:{sink}"], log=log) as relay,
    ):
        wait_http(sink, "/", process=end, log=log)
        wait_http(port, "/", process=relay, log=log)

        def load(port: int, path: str) -> Callable[[], Load]:
            return lambda: drive(
                port, path, body, connections=4, seconds=SECONDS, content_type=_NPY
            )

        got = in_turns(
            {
                "gateway": Side(real.default.pid, load(real.default.http, PICTURE_PATH)),
                "relay": Side(relay.pid, load(port, "/")),
            }
        )
    ratio = paired_ratio(got["gateway"].us, got["relay"].us)
    yield Row("bare HTTP relay of one 224x224x3 picture as npy, CPU a request", got["relay"].cpu)
    yield Row("gateway, the same picture checked, CPU a request", got["gateway"].cpu)
    yield Row("gateway : bare relay, npy", f"{ratio:.2f}x", "<= 3x", ratio <= 3)
    failed = sum(load.failed for load in got["gateway"].loads)
    yield Row("answers other than 200", str(failed), "0", failed == 0)


def grpc_rows(real: Stack, work: Path) -> Iterator[Row]:
    request, port, log = image_request(), free_port(), work / "grpc-relay.log"

    def load(port: int) -> Callable[[], Load]:
        return lambda: drive_grpc(port, request, under_way=BUSY, seconds=SECONDS)

    with child(
        ["-m", "benchmarks.relay", "grpc", str(port), f"127.0.0.1:{real.grpc}"], log=log
    ) as relay:
        got = in_turns(
            {
                "quiet": Side(real.quiet.pid, load(real.quiet.grpc)),
                "default": Side(real.default.pid, load(real.default.grpc)),
                "relay": Side(relay.pid, load(port)),
            }
        )
    yield Row(
        f"bare gRPC relay (grpc.aio server and channel), CPU a call with {BUSY} under way",
        got["relay"].cpu,
    )
    yield Row("gateway without log and metrics, CPU a gRPC call", got["quiet"].cpu)
    yield Row("gateway as it comes, CPU a gRPC call", got["default"].cpu)
    ratio = paired_ratio(got["quiet"].us, got["relay"].us)
    yield Row("gateway without log and metrics : bare relay, gRPC", f"{ratio:.2f}x")
    ratio = paired_ratio(got["default"].us, got["relay"].us)
    yield Row("gateway as it comes : bare relay, gRPC", f"{ratio:.2f}x", "<= 1.3x", ratio <= 1.3)
    failed = sum(load.failed for m in got.values() for load in m.loads)
    yield Row("failed calls", str(failed), "0", failed == 0)


def protocol_rows(real: Stack, work: Path) -> Iterator[Row]:
    """REST calls sent on as they came, or as tensors over gRPC: CPU of gateway and serving
    together, by body size."""
    ports = {"rest": real.rest, "grpc": real.grpc}
    by_rest, by_grpc = (
        {**QUIET, "HEADRACE_UPSTREAM_PROTOCOL": protocol} for protocol in ("rest", "grpc")
    )
    with (
        gateway(real.store, work, ports, env=by_rest) as over_rest,
        gateway(real.store, work, ports, env=by_grpc) as over_grpc,
    ):
        for images, connections in ((1, BUSY), (8, 8), (32, 4), (256, 2)):
            body = image_body(images)

            def load(
                port: int, body: bytes = body, connections: int = connections
            ) -> Callable[[], Load]:
                return lambda: drive(
                    port, IMAGE_PATH, body, connections=connections, seconds=SECONDS
                )

            got = in_turns(
                {
                    "rest": Side(over_rest.pid, load(over_rest.http), behind=real.serving_pid),
                    "grpc": Side(over_grpc.pid, load(over_grpc.http), behind=real.serving_pid),
                }
            )
            what = f"{images} image{'s' if images > 1 else ''} as JSON ({len(body) / 1e3:.0f} KB)"
            for name, side in got.items():
                figure = (
                    f"{side.both:.0f} us ({side.cpu} + {statistics.median(side.behind_us):.0f} us)"
                )
                yield Row(
                    f"{what}, passed on by {name}, CPU of gateway + serving a request", figure
                )
            ratio = paired_ratio(got["grpc"].together, got["rest"].together)
            yield Row(f"{what}, by grpc : by rest, CPU of both", f"{ratio:.2f}x")
            yield share(
                f"{what}, requests a second, by grpc : by rest", got["grpc"], got["rest"], None
            )
            failed = sum(load.failed for side in got.values() for load in side.loads)
            yield Row(f"{what}, answers other than 200", str(failed), "0", failed == 0)


def in_turns(sides: Mapping[str, Side]) -> dict[str, Measured]:
    got = {name: Measured([], [], []) for name in sides}
    for (name, side), counts in table.turns(sides.items(), ROUNDS):
        before, behind = cpu_s(side.pid), cpu_s(side.behind) if side.behind else 0.0
        load = side.load()
        if not counts:
            continue
        requests = max(load.requests, 1)  # a client per call may not get one through in this time
        got[name].us.append((cpu_s(side.pid) - before) * 1e6 / requests)
        got[name].behind_us.append(
            (cpu_s(side.behind) - behind) * 1e6 / requests if side.behind else 0.0
        )
        got[name].loads.append(load)
    return got


def share(what: str, above: Measured, below: Measured, mark: float | None) -> Row:
    ratio = statistics.median(
        a.per_second / max(b.per_second, 0.1) for a, b in zip(above.loads, below.loads, strict=True)
    )
    figure = f"{ratio:.2f}x ({above.per_second:.0f} : {below.per_second:.0f})"
    return (
        Row(what, figure, f">= {mark:g}x", ratio >= mark) if mark is not None else Row(what, figure)
    )


def _driver(port: int, path: str, body: bytes) -> Callable[[], Load]:
    return lambda: drive(port, path, body, connections=BUSY, seconds=SECONDS)
