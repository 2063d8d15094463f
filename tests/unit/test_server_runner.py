"""Where a run happens, and how many calls may wait for a thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from headrace.protocol.errors import Unavailable
from headrace.server.runner import Runner, blocking


def test_a_call_that_may_block_ends_in_its_own_thread() -> None:
    async def call() -> str:
        return threading.current_thread().name

    assert blocking(call()) == threading.current_thread().name


def test_a_call_that_may_block_must_not_wait_for_an_event_loop() -> None:
    async def call() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waits for an event loop"):
        blocking(call())


def test_calls_that_wait_for_a_thread_are_bounded() -> None:
    runner = Runner(threads=1, max_waiting=1)
    hold = threading.Event()

    async def all_() -> list[Any]:
        calls = [
            asyncio.ensure_future(runner.call(lambda: hold.wait(10), deadline=None))
            for _ in range(3)
        ]
        await asyncio.wait([calls[2]])
        hold.set()
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, refused = asyncio.run(all_())
    runner.close()
    assert (first, second) == (True, True)
    assert isinstance(refused, Unavailable)
    assert "try again later" in refused.message
