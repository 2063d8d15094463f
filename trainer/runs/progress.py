"""Shows how far a training is: a moving line on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from typing import TextIO

LOG_EVERY_S = 5.0
REDRAW_EVERY_S = 0.1
BAR_WIDTH = 24


class Progress:
    """Call step() after each step, and epoch() after each epoch."""

    def __init__(self, name: str, *, epochs: int, stream: TextIO | None = None) -> None:
        self._name = name
        self._epochs = epochs
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._began = self._shown = time.monotonic()

    def step(self, epoch: int, done: int, total: int) -> None:
        """``epoch`` and ``done`` count from 1 here, as they are shown."""
        now = time.monotonic()
        interval_s = REDRAW_EVERY_S if self._is_terminal else LOG_EVERY_S
        if now - self._shown < interval_s:
            return
        self._shown = now
        share = done / total
        if self._is_terminal:
            bar = ("=" * round(share * BAR_WIDTH)).ljust(BAR_WIDTH)
            self._redraw(f"{self._head(epoch)} [{bar}] {done}/{total} {self._elapsed(now)}")
        else:
            self._line(f"{self._head(epoch)}, {share:.0%}, {self._elapsed(now)}")

    def resumed(self, epochs: int) -> None:
        """``epochs`` were done by an earlier process, which did not come to the end."""
        self._line(f"{self._name}: resumed after epoch {epochs}/{self._epochs}")

    def epoch(self, epoch: int, *, last: bool = False, **figures: float) -> None:
        """A log file gets this only every LOG_EVERY_S, and at the end."""
        now = time.monotonic()
        values = "".join(f", {name} {value:.4g}" for name, value in figures.items())
        text = f"{self._head(epoch)}{values}, {self._elapsed(now)}"
        last = last or epoch == self._epochs
        if self._is_terminal:
            self._redraw(text, end="\n" if last else "")
        elif last or now - self._shown >= LOG_EVERY_S:
            self._shown = now
            self._line(text)

    def _head(self, epoch: int) -> str:
        return f"{self._name}: epoch {epoch}/{self._epochs}"

    def _elapsed(self, now: float) -> str:
        return f"{now - self._began:.0f} s"

    def _redraw(self, text: str, *, end: str = "") -> None:
        # Back to the margin, and clear the line, so that nothing of a longer text stays.
        self._stream.write(f"\r\x1b[K{text}{end}")
        self._stream.flush()

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()
