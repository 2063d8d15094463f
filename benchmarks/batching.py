"""Adaptive batching's rows: mnist_cnn, one image as JSON, the server as it comes beside itself with batching off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.forwarding import SECONDS, Side, in_turns, share
from benchmarks.load import Load, drive
from benchmarks.processes import child, wait_http
from benchmarks.stack import IMAGE_PATH, image_body, serve_arguments, wait_ports, with_picture
from benchmarks.table import Row, paired_ratio

CONNECTIONS = (1, 64, 256)
OFF = "--adaptive_batching=false"


def rows(trained: Path, work: Path) -> Iterator[Row]:
    """``work`` is a folder of this part's own."""
    store = with_picture(trained, work)
    with ExitStack() as exits:
        sides = {name: _serving(exits, store, work, name, flags) for name, flags in (("on", ()), ("off", (OFF,)))}
        for connections in CONNECTIONS:
            yield from _at(connections, sides)


def _at(connections: int, sides: dict[str, tuple[int, int]]) -> Iterator[Row]:
    def load(port: int) -> Callable[[], Load]:
        return lambda: drive(port, IMAGE_PATH, image_body(), connections=connections, seconds=SECONDS)

    got = in_turns({name: Side(pid, load(port)) for name, (pid, port) in sides.items()})
    on, off = got["on"], got["off"]
    at = f"mnist_cnn, one image as JSON, {connections} connection{'s' * (connections > 1)}"
    busy = connections > 1
    yield Row(f"{at}: CPU a request without adaptive batching", off.cpu)
    mine = sorted(on.us)[len(on.us) // 2]
    yield (
        Row(f"{at}: CPU a request", on.cpu, "<= 350 us", mine <= 350)
        if connections == 64
        else Row(f"{at}: CPU a request", on.cpu)
    )
    ratio = paired_ratio(on.us, off.us)
    figure = f"{ratio:.2f}x"
    yield Row(f"{at}: CPU on : off", figure, "<= 0.7x", ratio <= 0.7) if busy else Row(f"{at}: CPU on : off", figure)
    yield share(f"{at}: requests a second, on : off", on, off, 1.3 if busy else 0.95)
    failed = sum(load.failed for side in got.values() for load in side.loads)
    yield Row(f"{at}: answers other than 200", str(failed), "0", failed == 0)


def _serving(exits: ExitStack, store: Path, work: Path, name: str, flags: Sequence[str]) -> tuple[int, int]:
    """The process and its REST port."""
    port_file, log = work / f"batching-{name}.json", work / f"batching-{name}.log"
    process = exits.enter_context(child([*serve_arguments(store, port_file), *flags], log=log))
    ports = wait_ports(port_file, process.poll)
    wait_http(ports["rest"], IMAGE_PATH.split(":")[0], process=process, log=log)
    return process.pid, ports["rest"]
