"""Batched calls of an event loop: a quick batch runs in the loop, any other in the pool.

A request that finds nothing running waits until the end of the loop's present round, no longer:
what the loop has read by then runs together. So a single connection is answered at once, and
sixty-four fill a batch without a timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress

from headrace.protocol.errors import Cancelled, DeadlineExceeded, Unavailable
from headrace.server.batching.batcher import Batch, Batcher, PendingRequest
from headrace.server.deadlines import TIMED_OUT, wait_s
from headrace.server.engines import Arrays

# A run in the loop keeps all other calls of the loop waiting.
QUICK_S = 0.001


class AsyncBatcher:
    """Belongs to one event loop; only ``_on_done``, ``_on_lead`` and ``_work`` may be called in
    other threads."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._scheduled: set[Batcher] = set()
        self._done: deque[asyncio.Future[None]] = deque()
        self._is_waking = False

    async def run(
        self,
        batcher: Batcher,
        inputs: Arrays,
        output_names: Sequence[str],
        *,
        deadline: float | None,
        is_gone: Callable[[], bool] | None = None,
    ) -> Arrays:
        loop = self._loop
        future: asyncio.Future[None] = loop.create_future()
        request = PendingRequest(
            inputs,
            tuple(output_names),
            len(next(iter(inputs.values()))),
            deadline,
            on_done=lambda: self._on_done(future),
            on_lead=lambda batch: self._on_lead(batcher, batch),
            is_gone=is_gone,
            batch_key=batcher.batch_key(inputs, output_names),
        )
        if batcher.enqueue(request) and batcher not in self._scheduled:
            self._scheduled.add(batcher)
            loop.call_soon(self._run_next, batcher)
        timeout_s = wait_s(deadline)
        timer = None
        if timeout_s is not None:
            timer = loop.call_later(timeout_s, _expire, batcher, request, future)
        try:
            await future
        except asyncio.CancelledError:
            batcher.withdraw(request, Cancelled("The caller has left"))
            raise Unavailable("The server is stopping") from None
        finally:
            if timer is not None:
                timer.cancel()
        if request.error is not None:
            raise request.error
        return request.outputs

    def _run_next(self, batcher: Batcher) -> None:
        self._scheduled.discard(batcher)
        batch = batcher.next_batch()
        if batch is None:
            return
        if batcher.expected_s(batch) > QUICK_S:
            self._on_lead(batcher, batch)
            return
        batcher.run(batch)
        following = batcher.finish(batch, takes_next=True)
        if following is not None:
            self._on_lead(batcher, following)

    def _on_lead(self, batcher: Batcher, batch: Batch) -> None:
        try:
            self._pool.submit(self._work, batcher, batch)
        except RuntimeError:
            # The pool is closed because the server stops; other callers may still wait for this
            # batch.
            self._work(batcher, batch)

    def _work(self, batcher: Batcher, batch: Batch) -> None:
        following: Batch | None = batch
        while following is not None:
            batcher.run(following)
            following = batcher.finish(following, takes_next=True)

    def _on_done(self, future: asyncio.Future[None]) -> None:
        """All requests of a batch wake the loop once."""
        self._done.append(future)
        if not self._is_waking:
            self._is_waking = True
            # A loop that is closed has nobody left to hear it; other callers must not suffer.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        # This comes first, so that what is appended from now on wakes the loop again.
        self._is_waking = False
        while self._done:
            future = self._done.popleft()
            if not future.done():
                future.set_result(None)


def _expire(batcher: Batcher, request: PendingRequest, future: asyncio.Future[None]) -> None:
    """The caller hears at its deadline, whether its run has begun or not."""
    error = DeadlineExceeded(TIMED_OUT)
    batcher.withdraw(request, error)
    if not future.done():
        future.set_exception(error)
