"""How much memory a call leaves behind: what is repeated, how often, and how much each may
leave."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.abuse.calls import Call
from tests.abuse.cases import Case
from tests.abuse.watch import Door
from tests.abuse.wire import converse

Repeat = Callable[[int], None]

_QUICK_S = 0.001
_ROUNDS = 3
_PIPELINED = 50
_PIPELINED_BYTES = 2000
_AT_ONCE = 20


@dataclass(frozen=True)
class Plan:
    """``calls`` are measured after some that warm up; each may leave ``limit`` bytes."""

    warm_up: int
    calls: int
    limit: int


QUICK = Plan(2000, 20_000, 100)
SLOW = Plan(50, 200, 10_000)
CROWD = Plan(40, 100, 10_000)
SAMPLE = Plan(
    200, 1000, 1000
)  # for the quick suite: what a leak of a whole call or its stack shows in


def bytes_a_call(door: Door, repeat: Repeat, plan: Plan) -> float:
    """Of up to three rounds the one that left least: a process that warms up stops growing, a leak
    does not."""
    repeat(plan.warm_up)
    least = float("inf")
    for _ in range(_ROUNDS):
        before = anonymous_bytes(door)
        repeat(plan.calls)
        least = min(least, (anonymous_bytes(door) - before) / plan.calls)
        if least < plan.limit:
            break
    return least


def plan_for(repeat: Repeat) -> Plan:
    repeat(1)
    for times in (1, _PIPELINED):  # the many only where one is not slow already
        started = time.perf_counter()
        repeat(times)
        seconds_a_call = (time.perf_counter() - started) / times
        if seconds_a_call > _PIPELINED * _QUICK_S:
            return SLOW
    return QUICK if seconds_a_call < _QUICK_S else SLOW


def anonymous_bytes(door: Door) -> int:
    """Memory that is the process's own; pages of files come and go."""
    lines = Path(f"/proc/{door.process.pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def repeated_case(door: Door, case: Case, told: str) -> Repeat:
    """Small ones that keep the connection share one."""
    is_small = (
        all(isinstance(part, bytes) for part in case.parts)
        and sum(map(len, case.parts)) < _PIPELINED_BYTES
    )
    is_shared = is_small and case.probed and "closed" not in told and case.what != "HEAD"
    turns = _PIPELINED if is_shared else 1

    def repeat(times: int) -> None:
        for _ in range(0, times, turns):
            converse(door.rest_port, case.parts * min(turns, times), probed=case.probed)

    return repeat


@contextlib.contextmanager
def repeated_call(door: Door, call: Call) -> Iterator[Repeat]:
    options = [("grpc.max_send_message_length", -1)]
    request = call.request()
    with grpc.insecure_channel(f"127.0.0.1:{door.grpc_port}", options=options) as channel:
        stub = channel.unary_unary(call.path)

        def repeat(times: int) -> None:
            for _ in range(times):
                with contextlib.suppress(grpc.RpcError):
                    stub(request, timeout=60)

        yield repeat


def crowded(play: Callable[[], object]) -> Repeat:
    """Conversations that wait for something, many at the same time."""

    def repeat(times: int) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for playing in [pool.submit(play) for _ in range(times)]:
                playing.result()

    return repeat


class Table:
    """For each group and plan what its worst row left: growth.md."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, Plan], dict[str, list[tuple[float, str]]]] = {}

    def add(self, group: str, what: str, door: str, plan: Plan, left: float) -> None:
        self._rows.setdefault((group, plan), {}).setdefault(door, []).append((left, what))

    def text(self) -> str:
        lines = [
            "| class | rows | calls of each | headrace serve | gateway |",
            "|---|---|---|---|---|",
        ]
        for (group, plan), doors in self._rows.items():
            rows = len({what for found in doors.values() for _, what in found})
            cells = " | ".join(_worst(doors.get(door, [])) for door in ("server", "gateway"))
            lines.append(f"| {group} | {rows} | {plan.calls:,} | {cells} |")
        return "\n".join(lines) + "\n"


def _worst(found: list[tuple[float, str]]) -> str:
    if not found:
        return ""
    left, what = max(found)
    return f"{max(left, 0):,.0f} ({what})" if left >= 1 else "0"
