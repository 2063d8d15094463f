"""What the user reads: steps that say what they do and how long it took, and why one stopped."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from types import TracebackType

_LOG_EVERY_S = 10.0
_REDRAW_EVERY_S = 0.25


class Stop(Exception):
    """The command cannot go on; the message says why and what to do."""


def say(text: str = "") -> None:
    print(text, flush=True)


class Step:
    """One line: what is being done, then how long it took.

    It moves on a terminal; a log file gets it now and then.
    """

    def __init__(self, doing: str, done: str = "") -> None:
        self._doing = doing
        self._done = done or doing
        self._detail = ""
        self._began = time.monotonic()
        self._is_terminal = sys.stdout.isatty()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def detail(self, text: str) -> None:
        """How far it is; shown a moment later."""
        self._detail = text

    def finish(self, done: str) -> None:
        """The text for the end, where it is known only then."""
        self._done = done

    def __enter__(self) -> Step:
        if not self._is_terminal:
            say(f"      {self._doing} ...")
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._ticker.join()
        outcome = f" FAIL {self._doing}" if kind else f"   ok {self._done}"
        say(f"{self._back}{outcome} ({self._elapsed})")

    @property
    def _back(self) -> str:
        # To the margin, and clear the line, so that nothing of a longer text stays.
        return "\r\x1b[K" if self._is_terminal else ""

    @property
    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began:.1f} s"

    def _tick(self) -> None:
        interval_s = _REDRAW_EVERY_S if self._is_terminal else _LOG_EVERY_S
        while not self._over.wait(interval_s):
            text = f"      {self._doing} ... {self._elapsed}"
            if self._detail:
                text += f"  {self._detail}"
            if self._is_terminal:
                columns = shutil.get_terminal_size().columns
                print(self._back + text[: columns - 1], end="", flush=True)
            else:
                say(text)
