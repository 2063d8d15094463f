"""The access log: a line for each request, as text or JSON, on stderr. What was sent and answered
is never in it.

Who only asks how things are, and is told, gets no line: probes ask several times a second, day and
night.

A call costs its caller an append to a list; a thread of its own words the lines and writes them,
many at a time.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections import deque
from typing import NamedTuple, TextIO

from headrace.server import log

_EVERY_S = 0.25
# What strangers ask for must not fill the memory.
_KEPT_BYTES = 256
_MOST = (
    # Lines that wait; where stderr is slower than the callers, the rest is counted only.
    100_000
)


class Request(NamedTuple):
    at: float
    door: str
    method: str
    target: bytes
    status: int | str
    seconds: float
    bytes_out: int | None
    request_id: bytes


class AccessLog:
    """``form`` is text, json or off."""

    def __init__(self, form: str, out: TextIO | None = None) -> None:
        self._word = _json if form == "json" else _text
        self._out = out or sys.stderr
        # Both ends may be used at once.
        self._waiting: deque[Request] = deque()
        self._lost = 0
        self._stop = threading.Event()
        self.enabled = form != "off"
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        if self.enabled:
            self._thread.start()

    def rest(
        self,
        method: str,
        target: bytes,
        status: int,
        started: float,
        *,
        bytes_out: int,
        request_id: bytes = b"",
    ) -> None:
        """``started`` is a moment of time.perf_counter()."""
        if self.enabled:
            self._add("rest", method, target, status, started, bytes_out, request_id)

    def grpc(self, path: str, status: str, started: float, *, request_id: bytes = b"") -> None:
        if self.enabled:
            self._add("grpc", "POST", path.encode(), status, started, None, request_id)

    def close(self) -> None:
        self._stop.set()
        if self.enabled:
            self._thread.join()

    def _add(
        self,
        door: str,
        method: str,
        target: bytes,
        status: int | str,
        started: float,
        bytes_out: int | None,
        request_id: bytes,
    ) -> None:
        if len(self._waiting) >= _MOST:
            self._lost += 1
            return
        seconds = time.perf_counter() - started
        self._waiting.append(
            Request(time.time(), door, method, target, status, seconds, bytes_out, request_id)
        )

    def _run(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stop.wait(_EVERY_S)
            lines = [self._word(self._waiting.popleft()) for _ in range(len(self._waiting))]
            lost, self._lost = self._lost, 0
            if not lines:
                continue
            if lost:
                lines.append(f"{lost} more requests, for which there was no time")
            try:
                self._out.write("\n".join(lines) + "\n")
                self._out.flush()
            except (OSError, ValueError):
                # Nobody reads any more: that is no reason not to serve.
                continue


def _text(request: Request) -> str:
    line = (
        f"{_moment(request.at)} INFO request "
        f"{_called(request.door, request.method, request.target)} "
        f"status={request.status} ms={request.seconds * 1000:.3f}"
    )
    if request.bytes_out is not None:
        line += f" bytes_out={request.bytes_out}"
    return (
        f"{line} request_id={log.text(request.request_id.decode('latin-1'))}"
        if request.request_id
        else line
    )


def _called(door: str, method: str, target: bytes) -> str:
    return (
        _kept(door, method, target)
        if len(target) <= _KEPT_BYTES
        else _word_call(door, method, target)
    )


def _word_call(door: str, method: str, target: bytes) -> str:
    return f"door={door} method={log.text(method)} target={log.text(target.decode('latin-1'))}"


_kept = functools.lru_cache(maxsize=1024)(_word_call)


def _json(request: Request) -> str:
    fields: dict[str, object] = {
        "at": _moment(request.at),
        "event": "request",
        "door": request.door,
        "method": request.method,
        "target": request.target.decode("latin-1"),
        "status": request.status,
        "ms": round(request.seconds * 1000, 3),
    }
    if request.bytes_out is not None:
        fields["bytes_out"] = request.bytes_out
    if request.request_id:
        fields["request_id"] = request.request_id.decode("latin-1")
    return json.dumps(fields)


def _moment(at: float) -> str:
    return f"{_second(int(at))}.{int(at % 1 * 1000):03d}Z"


@functools.lru_cache(maxsize=4)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
