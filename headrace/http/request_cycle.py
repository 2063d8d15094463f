"""A request and its answer, as uvicorn's cycle has them, with an answer written in one piece.

What is rare, such as answers in parts or to HEAD, goes uvicorn's own way.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

# A longer body is not copied behind its head.
_JOINED_BYTES = 64 << 10
_CACHED_LINES = 256

_log = logging.getLogger("uvicorn.error")


class RequestCycle(RequestResponseCycle):
    """The head of an answer is kept until its body comes."""

    def __init__(self, connection: HttpToolsProtocol, *, keep_alive: bool) -> None:
        self.scope = connection.scope
        self.transport = connection.transport
        self.flow = connection.flow
        self.logger = _log
        self.access_logger = _log
        self.access_log = False
        self.default_headers = []
        self.message_event = asyncio.Event()
        self.on_response = connection.on_response_complete
        self.disconnected = False
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = connection.expect_100_continue
        self.body = bytearray()
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.chunked_encoding = None
        self.expected_content_length = 0
        self._start: Any = None

    async def receive(self) -> Any:
        if (
            self.more_body
            or self.waiting_for_100_continue
            or self.disconnected
            or self.response_complete
        ):
            return await super().receive()
        if not self.message_event.is_set():
            # Asked again after the whole body: this waits until the caller leaves.
            return await super().receive()
        self.message_event.clear()
        body = bytes(self.body)
        self.body = bytearray()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        kind = message["type"]
        if kind == "http.response.start" and not self.response_started:
            self._start = message
            return
        start = self._start
        if start is None:
            await super().send(message)
            return
        self._start = None
        if kind == "http.response.body" and not self.flow.write_paused:
            if self._send_whole(start, message):
                return
        await super().send(start)
        await super().send(message)

    def _send_whole(self, start: Any, message: Any) -> bool:
        """False where the answer has to go uvicorn's way."""
        body = message.get("body", b"")
        if (
            message.get("more_body")
            or len(body) > _JOINED_BYTES
            or self.scope["method"] == "HEAD"
            or self.disconnected
        ):
            return False
        pieces = [STATUS_LINE[start["status"]]]
        has_length = False
        closes = False
        for name, value in start["headers"]:
            if name == b"content-length":
                if value != b"%d" % len(body):
                    return False
                has_length = True
                pieces.append(b"content-length: %b\r\n" % value)
                continue
            pieces.append(_header_line(name, value))
            if name == b"connection" and value == b"close":
                closes = True
        if not has_length:
            return False
        if not self.keep_alive and not closes:
            pieces.append(b"connection: close\r\n")
        if closes:
            self.keep_alive = False
        pieces.append(b"\r\n")
        pieces.append(body)
        self._complete(b"".join(pieces))
        return True

    def _complete(self, response: bytes) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        self.transport.write(response)
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


@functools.lru_cache(maxsize=_CACHED_LINES)
def _header_line(name: bytes, value: bytes) -> bytes:
    if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
        raise RuntimeError("this header cannot be sent: its name or value has forbidden characters")
    return b"%b: %b\r\n" % (name, value)
