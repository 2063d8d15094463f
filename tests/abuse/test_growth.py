"""No class of refusal leaves memory or descriptors behind, through either door."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from tests.abuse import growth, slow
from tests.abuse.calls import CALLS, Call
from tests.abuse.cases import CASES, Case
from tests.abuse.conftest import Doors
from tests.abuse.frames import FRAMES, Frames, play
from tests.abuse.growth import CROWD, SAMPLE
from tests.abuse.watch import assert_well, descriptors, settles

DOORS = ("server", "gateway")
_SAMPLE_CASES = ("folded header", "invalid UTF-8")
_SAMPLE_CALLS = ("random bytes",)
_EVERY = 24


def _spread(rows: Sequence[Any]) -> list[Any]:
    """A few for `make test-long`; 20,000 calls of each class through each door take an hour, so the
    rest is full."""
    return [
        pytest.param(
            row, id=_name(row), marks=pytest.mark.full if number % _EVERY else pytest.mark.long
        )
        for number, row in enumerate(rows)
    ]


def _name(row: Any) -> str:
    return str(row if isinstance(row, str) else getattr(row, "id", row.what))


@pytest.fixture(scope="session")
def table() -> Iterator[growth.Table]:
    """Shown with -s, and kept in growth.md."""
    table = growth.Table()
    yield table
    print(f"\n\n{table.text()}")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "case", [c for c in CASES if c.what in _SAMPLE_CASES], ids=lambda case: case.id
)
def test_a_refused_request_leaves_no_memory(doors: Doors, case: Case, door: str) -> None:
    repeat = growth.repeated_case(doors[door], case, getattr(case, door))
    assert growth.bytes_a_call(doors[door], repeat, SAMPLE) < SAMPLE.limit


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "call", [c for c in CALLS if c.what in _SAMPLE_CALLS], ids=lambda call: call.what
)
def test_a_refused_call_leaves_no_memory(doors: Doors, call: Call, door: str) -> None:
    with growth.repeated_call(doors[door], call) as repeat:
        assert growth.bytes_a_call(doors[door], repeat, SAMPLE) < SAMPLE.limit


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", _spread(CASES))
def test_no_request_leaves_memory(doors: Doors, table: growth.Table, case: Case, door: str) -> None:
    repeat = growth.repeated_case(doors[door], case, getattr(case, door))
    plan = growth.plan_for(repeat)
    left = growth.bytes_a_call(doors[door], repeat, plan)
    table.add(case.group, case.what, door, plan, left)
    assert left < plan.limit


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("call", _spread([c for c in CALLS if not c.long]))
def test_no_call_leaves_memory(doors: Doors, table: growth.Table, call: Call, door: str) -> None:
    with growth.repeated_call(doors[door], call) as repeat:
        plan = growth.plan_for(repeat)
        left = growth.bytes_a_call(doors[door], repeat, plan)
    table.add("gRPC", call.what, door, plan, left)
    assert left < plan.limit


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("sent", _spread(FRAMES))
def test_no_broken_stream_leaves_memory_or_descriptors(
    doors: Doors, table: growth.Table, sent: Frames, door: str
) -> None:
    before = descriptors(doors[door])
    left = growth.bytes_a_call(
        doors[door], growth.crowded(partial(play, doors[door].grpc_port, sent.data)), CROWD
    )
    table.add("HTTP/2 frames to the gRPC ports", sent.what, door, CROWD, left)
    assert left < CROWD.limit
    settles(doors[door], before + 2)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", _spread(list(slow.SCRIPTS)))
def test_no_slow_caller_leaves_memory_or_descriptors(
    hasty: Doors, table: growth.Table, name: str, door: str
) -> None:
    before = descriptors(hasty[door])
    script, _ = slow.SCRIPTS[name]
    left = growth.bytes_a_call(
        hasty[door], growth.crowded(partial(slow.play, script, hasty[door].rest_port)), CROWD
    )
    table.add("callers that take their time", name, door, CROWD, left)
    assert left < CROWD.limit
    settles(hasty[door], before + 2)
    assert_well(hasty[door])
