"""Giving a call up, and so closing it upstream, when its caller hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from headrace.http.body import Disconnected, Message, Receive

T = TypeVar("T")

EXTENSION = (
    # Of the ASGI scope: a set of what to call when the connection is lost.
    "headrace.hang_up"
)
HangUps = set[Callable[[], None]]

# Above this the server has stopped reading and would not see the caller go; receive() makes it read
# on.
_READ_AT_ONCE_BYTES = 32 * 1024


async def cancel_on_disconnect(
    work: Awaitable[T], scope: Mapping[str, Any], receive: Receive, *, body_bytes: int
) -> T:
    """Await the answer; Disconnected when the caller hangs up before it is there.

    Our own server tells of a lost connection by a plain call. Elsewhere a task has to wait for it,
    which costs 25 us.
    """
    hang_ups: HangUps | None = (scope.get("extensions") or {}).get(EXTENSION)
    me = asyncio.current_task()
    assert me is not None
    gone = False

    def hang_up() -> None:
        nonlocal gone
        gone = True
        me.cancel()

    watch = None
    if hang_ups is not None and body_bytes <= _READ_AT_ONCE_BYTES:
        hang_ups.add(hang_up)
    else:
        watch = asyncio.ensure_future(receive())

        def told(watch: asyncio.Future[Message]) -> None:
            if not watch.cancelled() and not done:
                hang_up()

        watch.add_done_callback(told)
    done = False
    try:
        return await work
    except asyncio.CancelledError:
        if gone:
            me.uncancel()
            raise Disconnected from None
        raise
    finally:
        done = True
        if watch is not None:
            watch.cancel()
        elif hang_ups is not None:
            hang_ups.discard(hang_up)
