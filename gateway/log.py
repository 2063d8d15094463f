"""Log lines on stderr: one JSON object each, a short constant text plus fields; never a payload."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import sys
import time
import traceback
from functools import lru_cache

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}
_FLUSH_S = 0.05
_PIPE_BUF = (
    # As much goes into a pipe in one piece, so that the lines of several workers stay whole.
    4096
)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "t": _stamp(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line.update((k, v) for k, v in record.__dict__.items() if k not in _STANDARD)
        if record.exc_info:
            line["stack"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Send every logger of this process to stderr; called by the process's main, never by an
    import."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gateway").setLevel(level.upper())


class AccessLog:
    """One line a request on stderr. Calls are kept for a moment and worded and written together,
    which is cheaper."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._calls: list[tuple[float, dict[str, object]]] = []

    def write(self, **fields: object) -> None:
        if not self.enabled:
            return
        if not self._calls:
            asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)
        self._calls.append((time.time(), fields))

    def flush(self) -> None:
        calls, self._calls = self._calls, []
        lines = [
            json.dumps({"t": _stamp(at), "event": "request", **fields}) + "\n"
            for at, fields in calls
        ]
        piece: list[str] = []
        size = 0
        for line in lines:
            if piece and size + len(line) > _PIPE_BUF:
                _write("".join(piece))
                piece, size = [], 0
            piece.append(line)
            size += len(line)
        if piece:
            _write("".join(piece))


def _write(lines: str) -> None:
    sys.stderr.write(lines)
    sys.stderr.flush()


def request_id(given: bytes | None) -> str:
    """The caller's id when it is one that can stand in a header and a log, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    # No secret; os.urandom() is a system call of 3 us.
    return f"{random.getrandbits(64):016x}"


def _stamp(seconds: float) -> str:
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=2)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
