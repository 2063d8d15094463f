"""Decides where a run happens: in the event loop, in a thread of the pool, or together with other
requests in a batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from headrace.protocol.errors import DeadlineExceeded, Unavailable
from headrace.protocol.signatures import Signature
from headrace.server.batching import thread_batcher
from headrace.server.batching.adaptive import AdaptiveModel
from headrace.server.batching.async_batcher import QUICK_S, AsyncBatcher
from headrace.server.deadlines import TIMED_OUT, remaining_s
from headrace.server.engines import Arrays, LoadedModel

T = TypeVar("T")


class Runner:
    """``max_waiting``: calls that may wait for a thread of the pool."""

    def __init__(self, *, threads: int, max_waiting: int = 1000) -> None:
        self._pool = ThreadPoolExecutor(threads, "call")
        self._max_under_way = threads + max_waiting
        # Only the event loop counts it.
        self._under_way = 0
        self._async_batcher: AsyncBatcher | None = None

    async def run(
        self,
        model: LoadedModel,
        signature: Signature,
        inputs: Arrays,
        output_names: Sequence[str],
        *,
        deadline: float | None,
        may_block: bool = False,
        is_gone: Callable[[], bool] | None = None,
        is_alone: Callable[[], bool] | None = None,
    ) -> Arrays:
        """One run. With ``may_block`` it happens in the calling thread, which waits: the coroutine
        never suspends (see blocking()). ``is_alone``: no other call could run together with this
        one."""
        batcher = None
        if isinstance(model, AdaptiveModel):
            batcher = model.batchers.get(signature.name)
            if batcher is not None and not batcher.accepts(signature, inputs):
                batcher = None
        if may_block and batcher is not None:
            remaining_s(deadline)
            return thread_batcher.run(batcher, inputs, output_names, deadline=deadline)
        is_single = batcher is None or (is_alone is not None and is_alone())
        if may_block or (is_single and model.expected_s(signature, (inputs,)) <= QUICK_S):
            return model.run(signature, inputs, output_names, timeout_s=remaining_s(deadline))
        if batcher is not None:
            if self._async_batcher is None:
                self._async_batcher = AsyncBatcher(self._pool)
            return await self._async_batcher.run(
                batcher, inputs, output_names, deadline=deadline, is_gone=is_gone
            )
        return await self.call(
            lambda: model.run(signature, inputs, output_names, timeout_s=remaining_s(deadline)),
            deadline=deadline,
            is_gone=is_gone,
        )

    async def call(
        self,
        work: Callable[[], T],
        *,
        deadline: float | None,
        is_gone: Callable[[], bool] | None = None,
    ) -> T:
        """Does the work in the pool. The caller hears at its deadline, even where the work cannot
        be interrupted."""

        def work_if_still_wanted() -> T:
            # It may have waited long for a thread.
            remaining_s(deadline)
            if is_gone is not None and is_gone():
                raise Unavailable("The caller has left")
            return work()

        if self._under_way >= self._max_under_way:
            raise Unavailable(
                f"The server is busy: {self._under_way} calls are under way or wait; try again "
                "later"
            )
        self._under_way += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work_if_still_wanted)
        future.add_done_callback(self._on_done)
        timeout_s = None if deadline is None else deadline - time.monotonic()
        try:
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(TIMED_OUT) from None
        except asyncio.CancelledError:
            raise Unavailable("The server is stopping") from None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _on_done(self, future: asyncio.Future[T]) -> None:
        self._under_way -= 1


def blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that was told that it ``may_block``: it ends without an event loop,
    in the calling thread."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("a call that may block waits for an event loop")
