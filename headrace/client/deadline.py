"""The deadline of a call, shared by all the requests the call takes."""

from __future__ import annotations

import time

from headrace.protocol.errors import DeadlineExceeded, InvalidArgument


class Deadline:
    """Starts when it is made. ``address`` is for the error message."""

    def __init__(self, timeout_s: float, address: object) -> None:
        self._timeout_s = timeout_s
        self._address = address
        self._ends_at = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Seconds left, above 0; DeadlineExceeded if there are none."""
        remaining_s = self._ends_at - time.monotonic()
        if remaining_s <= 0:
            raise self.exceeded()
        return remaining_s

    def exceeded(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"no answer from {self._address} within {self._timeout_s:g} s")


def checked_timeout_s(timeout_s: float) -> float:
    if not 0 < timeout_s < float("inf"):
        raise InvalidArgument(f"timeout_s is {timeout_s}; a call needs a limit in seconds, above 0")
    return timeout_s
