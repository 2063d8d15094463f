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

from headrace.server.batching import gathering
from headrace.server.batching.gathering import Ask, Batch, Gatherer
from headrace.wire.errors import Cancelled, DeadlineExceeded, Unavailable

# A run in the loop keeps all its other calls waiting.
QUICK_S = 0.001


class Soon:
    """Of one event loop; everything but ``_decide`` and ``_work`` happens in it."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._begun: set[Gatherer] = set()
        self._decided: deque[asyncio.Future[None]] = deque()
        self._is_told = False

    async def run(
        self,
        gatherer: Gatherer,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        *,
        deadline: float | None,
        is_gone: Callable[[], bool] | None = None,
    ) -> dict[str, np.ndarray]:
        loop = self._loop
        future: asyncio.Future[None] = loop.create_future()
        ask = Ask(
            *(inputs, tuple(outputs), len(next(iter(inputs.values()))), deadline),
            *(lambda: self._decide(future), lambda batch: self._lead(gatherer, batch)),
            is_gone=is_gone,
            kind=gatherer.kind(inputs, outputs),
        )
        if gatherer.wait(ask) and gatherer not in self._begun:
            self._begun.add(gatherer)
            loop.call_soon(self._begin, gatherer)
        timer = None
        if deadline is not None:
            timer = loop.call_later(
                max(0.0, deadline - time.monotonic()), _expire, gatherer, ask, future
            )
        try:
            await future
        except asyncio.CancelledError:
            gatherer.forget(ask, Cancelled("The caller has left"))
            raise Unavailable("The server is stopping") from None
        finally:
            if timer is not None:
                timer.cancel()
        if ask.error is not None:
            raise ask.error
        return ask.outputs

    def _begin(self, gatherer: Gatherer) -> None:
        self._begun.discard(gatherer)
        batch = gatherer.begin()
        if batch is None:
            return
        if gatherer.expected_s(batch) > QUICK_S:
            self._lead(gatherer, batch)
            return
        gatherer.run(batch)
        if (more := gatherer.end(batch, goes_on=True)) is not None:
            self._lead(gatherer, more)

    def _lead(self, gatherer: Gatherer, batch: Batch) -> None:
        """In any thread."""
        try:
            self._pool.submit(self._work, gatherer, batch)
        except RuntimeError:
            # The pool is closed: the server stops, and others of the batch may still wait for it.
            self._work(gatherer, batch)

    def _work(self, gatherer: Gatherer, batch: Batch | None) -> None:
        while batch is not None:
            gatherer.run(batch)
            batch = gatherer.end(batch, goes_on=True)

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


def _expire(gatherer: Gatherer, ask: Ask, future: asyncio.Future[None]) -> None:
    """The caller hears at its deadline, whether its run has begun or not."""
    error = DeadlineExceeded(gathering.TIMED_OUT)
    gatherer.forget(ask, error)
    if not future.done():
        future.set_exception(error)
