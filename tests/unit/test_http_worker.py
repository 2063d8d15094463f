"""A worker's end of the link to its parent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from headrace.http.worker import ParentLink


@pytest.fixture
def link() -> Iterator[tuple[socket.socket, ParentLink]]:
    parent, worker = socket.socketpair()
    with parent, ParentLink(worker.detach()) as parent_link:
        yield parent, parent_link


def test_the_order_is_one_line_of_json(link: tuple[socket.socket, ParentLink]) -> None:
    parent, parent_link = link
    parent.sendall(b'{"number": ')
    parent.sendall(b"7}\n")
    assert parent_link.order() == {"number": 7}


def test_there_is_no_order_from_a_parent_that_has_ended(
    link: tuple[socket.socket, ParentLink],
) -> None:
    parent, parent_link = link
    parent.close()
    assert parent_link.order() is None


def test_a_worker_that_is_up_hears_of_its_parents_end(
    link: tuple[socket.socket, ParentLink],
) -> None:
    parent, parent_link = link

    async def run() -> None:
        closed = asyncio.Event()
        parent_link.up(on_close=closed.set)
        assert parent.recv(100) == b"{}\n"
        assert not parent_link.is_closed
        parent.close()
        async with asyncio.timeout(5):
            await closed.wait()

    asyncio.run(run())
    assert parent_link.is_closed


def test_an_error_is_told_to_whoever_is_there(link: tuple[socket.socket, ParentLink]) -> None:
    parent, parent_link = link
    parent_link.failed("no room")
    assert parent.recv(100) == b'{"error": "no room"}\n'
    parent.close()
    parent_link.failed("no room")
