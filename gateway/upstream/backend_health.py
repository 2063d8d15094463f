"""Whether one serving process answers, as probes and forwarded calls find it."""

from __future__ import annotations

import time
from collections.abc import Callable


class BackendHealth:
    """Whether one serving process answers. Probes and forwarded calls report here; ``on_return``:
    it is back."""

    def __init__(self, on_return: Callable[[], None] = lambda: None) -> None:
        self.up = False
        # Known to be: before the first verdict it is neither.
        self.down = False
        self.reason = "not asked yet"
        self._answered_at = 0.0
        self._on_return = on_return

    def answered(self) -> None:
        self._answered_at = time.monotonic()
        if not self.up:
            was_down, self.up, self.down, self.reason = self.down, True, False, ""
            # The first verdict of all is no return.
            if was_down:
                self._on_return()

    def answered_since(self, moment: float) -> bool:
        """Whether it is up and something came from it after this moment of the monotonic clock."""
        return self.up and self._answered_at > moment

    def failed(self, reason: str, *, asked_at: float | None = None) -> None:
        """Counts as down, unless an answer came in since ``asked_at``: slow to a probe is not
        dead."""
        if asked_at is None or self._answered_at < asked_at:
            self.up, self.down, self.reason = False, True, reason
