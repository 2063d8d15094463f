"""Where and when work is done: the one place that decides how a run is executed, and the pool REST calls work in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from headrace.server.engines import LoadedModel
from headrace.wire.errors import DeadlineExceeded, Unavailable
from headrace.wire.signatures import Signature

Answer = TypeVar("Answer")

_TIMED_OUT = "Timed out waiting for notification"  # TensorFlow's own words


class Runner:
    """Deadlines are moments of time.monotonic()."""

    def __init__(self, *, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "call")

    def run(
        self,
        model: LoadedModel,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        *,
        deadline: float | None,
    ) -> dict[str, np.ndarray]:
        """One run, in the calling thread."""
        return model.run(signature, inputs, outputs, timeout_s=_left(deadline))

    async def call(self, work: Callable[[], Answer], *, deadline: float | None) -> Answer:
        """Does the work in the pool. The caller hears at its deadline, even where the work cannot be interrupted."""

        def timely() -> Answer:
            _left(deadline)  # it may have waited for a thread until nobody wanted it any more
            return work()

        future = asyncio.get_running_loop().run_in_executor(self._pool, timely)
        try:
            return await asyncio.wait_for(future, None if deadline is None else deadline - time.monotonic())
        except TimeoutError:
            raise DeadlineExceeded(_TIMED_OUT) from None
        except asyncio.CancelledError:
            raise Unavailable("The server is stopping") from None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded(_TIMED_OUT)
    return left
