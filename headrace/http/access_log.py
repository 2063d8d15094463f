"""The access log: a line for each request, as text or JSON, on stderr; never a payload.

A request costs its caller an append to a list. A thread words the lines and writes many at a time.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, TextIO

from headrace.http import log

UNKNOWN = "unknown"

_INTERVAL_S = 0.25
# What a caller makes up must not fill the memory.
_PATH_LENGTH = 300
_REQUEST_ID_LENGTH = 128
# Where stderr is slower than the callers, lines beyond these are dropped and counted.
_MAX_WAITING = 100_000
# A pipe takes as much in one piece, so that lines of several processes stay whole.
_PIPE_BUF = 4096


@dataclass(slots=True)
class RequestInfo:
    """What is learnt about a request on its way, for the access log and the metrics."""

    request_id: str = ""
    model: str = UNKNOWN
    version: str = UNKNOWN
    signature: str = UNKNOWN
    request_bytes: int = 0


class Fields(NamedTuple):
    """Of a line, after time, level and event. docs/reference/logs.md says what each means."""

    request_id: str
    protocol: str
    method: str
    path: str
    model: str
    version: str
    signature: str
    status: int | str
    duration_ms: float
    request_bytes: int
    response_bytes: int


class AccessLog:
    """``form`` is text, json or off. Lines are written between start() and close()."""

    def __init__(self, form: str, out: TextIO | None = None) -> None:
        self.enabled = form != "off"
        self._word = _json_line if form == "json" else _text_line
        self._out = out or sys.stderr
        # Appended to by any thread, emptied by the log's own.
        self._waiting: deque[tuple[float, tuple[int | float | str, ...]]] = deque()
        self._dropped = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)

    def start(self) -> None:
        if self.enabled:
            self._thread.start()

    def close(self) -> None:
        """Returns when all lines are written."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def write(
        self,
        info: RequestInfo,
        *,
        request_id: str,
        protocol: str,
        method: str,
        path: str,
        status: int | str,
        seconds: float,
        response_bytes: int,
    ) -> None:
        """``status`` is HTTP's number or the name of gRPC's code."""
        if not self.enabled:
            return
        if len(self._waiting) >= _MAX_WAITING:
            self._dropped += 1
            return
        # In the order of Fields, which would cost a call of its own.
        fields = (
            request_id[:_REQUEST_ID_LENGTH],
            protocol,
            method,
            path[:_PATH_LENGTH],
            info.model,
            info.version,
            info.signature,
            status,
            seconds * 1000,
            info.request_bytes,
            response_bytes,
        )
        self._waiting.append((time.time(), fields))

    def _run(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(_INTERVAL_S)
            lines = [self._word(*self._waiting.popleft()) for _ in range(len(self._waiting))]
            dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(_dropped_line(dropped, is_json=self._word is _json_line))
            try:
                self._write(lines)
            except (OSError, ValueError):
                # Nobody reads any more: that is no reason not to serve.
                continue

    def _write(self, lines: list[str]) -> None:
        piece = ""
        for line in lines:
            if piece and len(piece) + len(line) > _PIPE_BUF:
                self._flush(piece)
                piece = ""
            piece += line
        if piece:
            self._flush(piece)

    def _flush(self, piece: str) -> None:
        self._out.write(piece)
        self._out.flush()


def _json_line(at: float, values: tuple[int | float | str, ...]) -> str:
    fields = Fields._make(values)
    return (
        f'{{"time": "{log.timestamp(at)}", "level": "info", "event": "request", '
        f'"request_id": {json.dumps(fields.request_id)}, {_call_as_json(*values[1:7])}, '
        f'"status": {json.dumps(fields.status)}, "duration_ms": {fields.duration_ms:.3f}, '
        f'"request_bytes": {fields.request_bytes}, "response_bytes": {fields.response_bytes}}}\n'
    )


def _text_line(at: float, values: tuple[int | float | str, ...]) -> str:
    fields = Fields._make(values)
    return (
        f"{log.timestamp(at)} INFO request "
        f"request_id={log.text(fields.request_id)} {_call_as_text(*values[1:7])} "
        f"status={fields.status} duration_ms={fields.duration_ms:.3f} "
        f"request_bytes={fields.request_bytes} response_bytes={fields.response_bytes}\n"
    )


# The second to the seventh field: their values come over and over.
_CALL = Fields._fields[1:7]


@functools.lru_cache(maxsize=1024)
def _call_as_json(*values: object) -> str:
    return json.dumps(dict(zip(_CALL, values, strict=True)))[1:-1]


@functools.lru_cache(maxsize=1024)
def _call_as_text(*values: object) -> str:
    words = [f"{name}={log.text(value)}" for name, value in zip(_CALL, values, strict=True)]
    return " ".join(words)


def _dropped_line(count: int, *, is_json: bool) -> str:
    at = log.timestamp(time.time())
    event = "access log lines dropped"
    if is_json:
        line = {"time": at, "level": "warning", "event": event, "count": count}
        return json.dumps(line) + "\n"
    return f"{at} WARNING {event} count={count}\n"
