"""Whether one serving process answers, as probes and forwarded calls find it."""

from __future__ import annotations

import time
from collections.abc import Callable


class BackendHealth:
    """Neither ``up`` nor ``down`` before the first verdict. ``on_recovery`` is called when a dead
    process answers again."""

    def __init__(self, on_recovery: Callable[[], None] = lambda: None) -> None:
        self.up = False
        self.down = False
        # Why it is not up.
        self.reason = "not asked yet"
        self._answered_at = 0.0
        self._on_recovery = on_recovery

    def answered(self) -> None:
        self._answered_at = time.monotonic()
        if self.up:
            return
        was_down = self.down
        self.up, self.down, self.reason = True, False, ""
        if was_down:
            self._on_recovery()

    def answered_since(self, moment: float) -> bool:
        """Whether it is up and something came from it after this moment of the monotonic clock."""
        return self.up and self._answered_at > moment

    def failed(self, reason: str, *, probed_at: float | None = None) -> None:
        """Counts as down, unless something came from it since ``probed_at``: a process that is slow
        to answer a probe is not dead."""
        if probed_at is None or self._answered_at < probed_at:
            self.up, self.down, self.reason = False, True, reason
