"""When a call has to end: one deadline for all the requests it takes, worded with what the caller
gave."""

from __future__ import annotations

import time

from headrace.protocol.errors import DeadlineExceeded, InvalidArgument


class Deadline:
    """Begins when made. ``address`` is only for the words."""

    def __init__(self, timeout_s: float, address: object) -> None:
        self._timeout_s = timeout_s
        self._address = address
        self._ends_at = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """Seconds left, above 0; DeadlineExceeded when there are none."""
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise self.exceeded()
        return left

    def exceeded(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"no answer from {self._address} within {self._timeout_s:g} s")


def checked_timeout_s(timeout_s: float) -> float:
    if not 0 < timeout_s < float("inf"):
        raise InvalidArgument(f"timeout_s is {timeout_s}; a call needs a limit in seconds, above 0")
    return timeout_s
