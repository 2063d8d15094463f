"""Calls of an event loop: run in it where that is quick, else in the pool; gathered with what the
loop reads next.

A request that finds nothing under way waits for the end of the loop's present round, no longer:
what the loop has read by then runs together. So one connection is answered at once, and sixty-four
fill a batch without a timer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress

import numpy as np

from headrace.protocol.errors import Cancelled, DeadlineExceeded, Unavailable
from headrace.server.batching.batcher import TIMED_OUT, Batch, Batcher, PendingRequest

# A run in the loop keeps all its other calls waiting.
QUICK_S = 0.001


class AsyncBatcher:
    """Of one event loop; everything but ``_decide`` and ``_work`` happens in it."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._begun: set[Batcher] = set()
        self._decided: deque[asyncio.Future[None]] = deque()
        self._is_told = False

    async def run(
        self,
        batcher: Batcher,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        *,
        deadline: float | None,
        is_gone: Callable[[], bool] | None = None,
    ) -> dict[str, np.ndarray]:
        loop = self._loop
        future: asyncio.Future[None] = loop.create_future()
        ask = PendingRequest(
            *(inputs, tuple(outputs), len(next(iter(inputs.values()))), deadline),
            *(lambda: self._decide(future), lambda batch: self._lead(batcher, batch)),
            is_gone=is_gone,
            kind=batcher.kind(inputs, outputs),
        )
        if batcher.wait(ask) and batcher not in self._begun:
            self._begun.add(batcher)
            loop.call_soon(self._begin, batcher)
        timer = None
        if deadline is not None:
            timer = loop.call_later(
                max(0.0, deadline - time.monotonic()), _expire, batcher, ask, future
            )
        try:
            await future
        except asyncio.CancelledError:
            batcher.forget(ask, Cancelled("The caller has left"))
            raise Unavailable("The server is stopping") from None
        finally:
            if timer is not None:
                timer.cancel()
        if ask.error is not None:
            raise ask.error
        return ask.outputs

    def _begin(self, batcher: Batcher) -> None:
        self._begun.discard(batcher)
        batch = batcher.begin()
        if batch is None:
            return
        if batcher.expected_s(batch) > QUICK_S:
            self._lead(batcher, batch)
            return
        batcher.run(batch)
        if (more := batcher.end(batch, goes_on=True)) is not None:
            self._lead(batcher, more)

    def _lead(self, batcher: Batcher, batch: Batch) -> None:
        """In any thread."""
        try:
            self._pool.submit(self._work, batcher, batch)
        except RuntimeError:
            # The pool is closed: the server stops, and others of the batch may still wait for it.
            self._work(batcher, batch)

    def _work(self, batcher: Batcher, batch: Batch | None) -> None:
        while batch is not None:
            batcher.run(batch)
            batch = batcher.end(batch, goes_on=True)

    def _decide(self, future: asyncio.Future[None]) -> None:
        """In any thread. A batch wakes the loop once."""
        self._decided.append(future)
        if not self._is_told:
            self._is_told = True
            with suppress(RuntimeError):
                # The loop is closed: nobody is there to hear, and others must not suffer.
                self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        # First: what is appended from now on wakes the loop again.
        self._is_told = False
        while self._decided:
            future = self._decided.popleft()
            if not future.done():
                future.set_result(None)


def _expire(batcher: Batcher, ask: PendingRequest, future: asyncio.Future[None]) -> None:
    """The caller hears at its deadline, whether its run has begun or not."""
    error = DeadlineExceeded(TIMED_OUT)
    batcher.forget(ask, error)
    if not future.done():
        future.set_exception(error)
