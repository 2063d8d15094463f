"""Nobody holds a connection for longer than the limits say; beyond the most connections callers are
told so."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.abuse import slow
from tests.abuse.cases import MODEL, get
from tests.abuse.conftest import MOST, Doors
from tests.abuse.watch import assert_well, descriptors, settles
from tests.abuse.wire import converse
from tests.live import until

DOORS = ("server", "gateway")


@pytest.fixture(scope="module")
def outcomes(hasty: Doors) -> Iterator[Callable[[str, str], int | None]]:
    """All scripts play at the same time, to both doors."""
    with ThreadPoolExecutor(2 * len(slow.SCRIPTS)) as pool:
        playing = {
            (door, name): pool.submit(slow.play, script, hasty[door].rest_port)
            for name, (script, _) in slow.SCRIPTS.items()
            for door in DOORS
        }
        yield lambda door, name: playing[door, name].result(60)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", slow.SCRIPTS)
def test_a_slow_caller_is_let_go(
    hasty: Doors, outcomes: Callable[[str, str], int | None], name: str, door: str
) -> None:
    assert outcomes(door, name) == slow.SCRIPTS[name][1]
    assert_well(hasty[door])


@pytest.mark.parametrize("door", DOORS)
def test_connections_beyond_the_most_are_told_and_leave_nothing(hasty: Doors, door: str) -> None:
    port, before = hasty[door].rest_port, descriptors(hasty[door])
    with (
        slow.crowd(port, MOST + 4),
        socket.create_connection(("127.0.0.1", port), timeout=10) as one_more,
    ):
        told = one_more.recv(1 << 16)
        assert told.startswith(b"HTTP/1.1 503 ") and b"\r\nretry-after: 1\r\n" in told
    with slow.crowd(port, 4 * MOST):
        heard = converse(port, (get(MODEL),), probed=False)
        assert heard.told in ("503", "503, closed", "no answer, closed")
    settles(hasty[door], before + 2)
    until(lambda: hasty[door].get(MODEL.decode()).status == 200, 10)


@pytest.mark.parametrize("door", DOORS)
def test_a_grpc_connection_that_says_nothing_is_closed(hasty: Doors, door: str) -> None:
    with socket.create_connection(("127.0.0.1", hasty[door].grpc_port), timeout=10) as connection:
        while connection.recv(1 << 16):
            pass
