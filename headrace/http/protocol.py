"""uvicorn's HTTP protocol with less done for each request: an answer is one write, and nothing is
timed call by call.

After a run of TensorFlow the processor's caches hold little of ours, so what counts is how much
code a request goes through. What is rare, answers in pieces, HEAD or unusual targets among it,
still goes uvicorn's own way.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

# A longer body is not copied behind its head.
_JOINED_BYTES = 64 << 10
_KEPT_LINES = 256

_log = logging.getLogger("uvicorn.error")


class HttpProtocol(HttpToolsProtocol):
    """What a connection does for each request."""

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self.scope = {  # type: ignore[typeddict-item]
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,  # type: ignore[typeddict-item]
            "root_path": self.root_path,
            "headers": self.headers,
            "state": {},
        }

    def on_headers_complete(self) -> None:
        parser, scope, url = self.parser, self.scope, self.url
        version = parser.get_http_version()
        scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        if url.startswith(b"/") and b"#" not in url and not url.startswith(b"//"):
            raw_path, _, query = url.partition(b"?")
        else:
            parsed = httptools.parse_url(url)
            raw_path, query = parsed.path, parsed.query or b""
        path = raw_path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query
        before = self.cycle
        self.cycle = cycle = _Exchange(
            self, keep_alive=version != "1.0" and parser.should_keep_alive()
        )
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def _unset_keepalive_if_required(self) -> None:
        """There is no timer to stop: connections that stand still are found by a sweep over all."""


class _Exchange(RequestResponseCycle):
    """A request and its answer. The answer's head is kept until its body comes."""

    def __init__(self, connection: HttpProtocol, *, keep_alive: bool) -> None:
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
        self._held: Any = None

    async def receive(self) -> Any:
        if (
            self.more_body
            or self.waiting_for_100_continue
            or self.disconnected
            or self.response_complete
        ):
            return await super().receive()
        if not self.message_event.is_set():
            # Asked again after the whole body: until the caller leaves.
            return await super().receive()
        self.message_event.clear()
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        held, is_start = self._held, message["type"] == "http.response.start"
        if is_start and not self.response_started:
            self._held = message
            return
        if held is None:
            await super().send(message)
            return
        self._held = None
        if (
            message["type"] != "http.response.body"
            or self.flow.write_paused
            or not self._answer(held, message)
        ):
            await super().send(held)
            await super().send(message)

    def _answer(self, start: Any, message: Any) -> bool:
        """Whether the whole answer went out, in one write."""
        body = message.get("body", b"")
        if (
            message.get("more_body")
            or len(body) > _JOINED_BYTES
            or self.scope["method"] == "HEAD"
            or self.disconnected
        ):
            return False
        parts = [STATUS_LINE[start["status"]]]
        has_length, closes = False, False
        for name, value in start["headers"]:
            if name == b"content-length":
                if value != b"%d" % len(body):
                    return False
                has_length = True
                parts.append(b"content-length: %b\r\n" % value)
            else:
                parts.append(_line(name, value))
                closes = closes or (name == b"connection" and value == b"close")
        if not has_length:
            return False
        if closes or not self.keep_alive:
            self.keep_alive = False
            if not closes:
                parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        parts.append(body)
        self.response_started = True
        self.waiting_for_100_continue = False
        self.transport.write(b"".join(parts))
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True


@functools.lru_cache(maxsize=_KEPT_LINES)
def _line(name: bytes, value: bytes) -> bytes:
    if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
        raise RuntimeError("not a header that can be sent")
    return b"%b: %b\r\n" % (name, value)
