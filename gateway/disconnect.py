"""Giving a call up, and so closing it upstream, when its caller disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from headrace.http.body import Disconnected, Receive

T = TypeVar("T")

# Of the ASGI scope: a set of functions to call when the connection is lost. Our own server has it.
EXTENSION = "headrace.on_disconnect"
DisconnectCallbacks = set[Callable[[], None]]

# With a larger body the server has stopped reading and would not see the caller go; receive() makes
# it read on.
_MAX_BYTES_READ_AHEAD = 32 * 1024


async def cancel_on_disconnect(
    work: Awaitable[T], scope: Mapping[str, Any], receive: Receive, *, body_bytes: int
) -> T:
    """Await ``work``; Disconnected when the caller goes away before it is done.

    Our own server reports a lost connection by a plain call. With another one a task has to wait
    for it, which costs 25 us.
    """
    task = asyncio.current_task()
    assert task is not None
    watch = _Watch()
    watch.task = task
    callbacks: DisconnectCallbacks | None = (scope.get("extensions") or {}).get(EXTENSION)
    message_task = None
    if callbacks is not None and body_bytes <= _MAX_BYTES_READ_AHEAD:
        callbacks.add(watch.disconnected)
    else:
        message_task = asyncio.ensure_future(receive())
        message_task.add_done_callback(watch.received)
    try:
        return await work
    except asyncio.CancelledError:
        if watch.is_disconnected:
            task.uncancel()
            raise Disconnected from None
        raise
    finally:
        watch.is_over = True
        if message_task is not None:
            message_task.cancel()
        elif callbacks is not None:
            callbacks.discard(watch.disconnected)


class _Watch:
    """Cancels a task when its caller goes away."""

    # Set by who makes it: an __init__ would cost a call.
    task: asyncio.Task[Any]
    is_disconnected = False
    # The work is done, whatever the caller does from now on.
    is_over = False

    def disconnected(self) -> None:
        self.is_disconnected = True
        self.task.cancel()

    def received(self, message: asyncio.Future[Any]) -> None:
        """After the body nothing is received but the end of the connection."""
        if not message.cancelled() and not self.is_over:
            self.disconnected()
