"""Deadlines are moments of time.monotonic(); None means that the caller waits for ever."""

from __future__ import annotations

import time

from headrace.protocol.errors import DeadlineExceeded

# TensorFlow's own words.
TIMED_OUT = "Timed out waiting for notification"


def remaining_s(deadline: float | None) -> float | None:
    """The time that is left for a run; raises DeadlineExceeded when there is none."""
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise DeadlineExceeded(TIMED_OUT)
    return remaining


def wait_s(deadline: float | None) -> float | None:
    """The time to wait for something, never negative."""
    if deadline is None:
        return None
    return max(0.0, deadline - time.monotonic())
