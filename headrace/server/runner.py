"""Where and when work is done: the one place that decides how a run is executed, and the pool REST
calls work in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TypeVar

import numpy as np

from headrace.protocol.errors import DeadlineExceeded, Unavailable
from headrace.protocol.signatures import Signature
from headrace.server.batching import adaptive
from headrace.server.batching import batcher as batching
from headrace.server.batching.async_batcher import QUICK_S, AsyncBatcher
from headrace.server.batching.batcher import TIMED_OUT, Caller
from headrace.server.engines import LoadedModel, bytes_in

Answer = TypeVar("Answer")

# Who waits for what this thread does, where that is known: a door sets it.
CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


class Runner:
    """Deadlines are moments of time.monotonic(). ``max_waiting``: calls that may wait for a thread
    of the pool."""

    def __init__(self, *, threads: int, max_waiting: int = 1000) -> None:
        self._pool = ThreadPoolExecutor(threads, "call")
        self._most = threads + max_waiting
        # Of the event loop, which alone counts it.
        self._under_way = 0
        self._soon: AsyncBatcher | None = None

    def run(
        self,
        model: LoadedModel,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        *,
        deadline: float | None,
    ) -> dict[str, np.ndarray]:
        """One run, in the calling thread; with those of others where that is allowed."""
        batcher = adaptive.batcher(model, signature, inputs)
        if batcher is None:
            return model.run(signature, inputs, outputs, timeout_s=_left(deadline))
        _left(deadline)
        return batching.run(batcher, inputs, outputs, deadline=deadline, caller=CALLER.get())

    async def run_soon(
        self,
        model: LoadedModel,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        *,
        deadline: float | None,
        is_gone: Callable[[], bool] | None = None,
        is_alone: Callable[[], bool] | None = None,
    ) -> dict[str, np.ndarray]:
        """One run, asked for by the event loop: in it where that is quick, else in the pool."""
        batcher = adaptive.batcher(model, signature, inputs)
        may_run_alone = batcher is None or (is_alone is not None and is_alone())
        if may_run_alone and model.expected_s(signature, bytes_in(inputs)) <= QUICK_S:
            return model.run(signature, inputs, outputs, timeout_s=_left(deadline))
        if batcher is not None:
            soon = self._soon = self._soon or AsyncBatcher(self._pool)
            return await soon.run(batcher, inputs, outputs, deadline=deadline, is_gone=is_gone)
        return await self.call(
            lambda: model.run(signature, inputs, outputs, timeout_s=_left(deadline)),
            deadline=deadline,
            is_gone=is_gone,
        )

    async def call(
        self,
        work: Callable[[], Answer],
        *,
        deadline: float | None,
        is_gone: Callable[[], bool] | None = None,
    ) -> Answer:
        """Does the work in the pool. The caller hears at its deadline, even where the work cannot
        be interrupted."""

        def timely() -> Answer:
            # It may have waited for a thread until nobody wanted it any more.
            _left(deadline)
            if is_gone is not None and is_gone():
                raise Unavailable("The caller has left")
            return work()

        if self._under_way >= self._most:
            raise Unavailable(
                f"The server is busy: {self._under_way} calls are under way or wait; try again "
                "later"
            )
        self._under_way += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, timely)
        future.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(
                future, None if deadline is None else deadline - time.monotonic()
            )
        except TimeoutError:
            raise DeadlineExceeded(TIMED_OUT) from None
        except asyncio.CancelledError:
            raise Unavailable("The server is stopping") from None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _done(self, future: asyncio.Future[Answer]) -> None:
        self._under_way -= 1


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded(TIMED_OUT)
    return left
