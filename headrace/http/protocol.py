"""One HTTP/1.1 connection of both REST doors: uvicorn's protocol over httptools, with less done for
each request, and with limits on what a caller sends and how long it takes.

After a run of TensorFlow the processor's caches hold little of ours, so what counts is how much
code a request goes through. Nothing is timed call by call: server.py sweeps over all connections,
twice a second, and finds those that stand still.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from headrace.http.limits import Limits
from headrace.http.request_cycle import RequestCycle

# In the scope: the request target as it was sent.
TARGET = "headrace.target"

# Time for a refused caller to read why, before its connection is closed.
_LINGER_S = 2.0
# So many connections beyond the limit get an answer that says so; further ones are just closed.
_MAX_LINGERING = 64
_VERSIONS = ("1.1", "1.0")


class Waiting(Enum):
    """What a connection waits for."""

    HEAD = "the rest of a head"
    BODY = "the rest of a body"
    ANSWER = "the app, or the caller to take its answer"
    REQUEST = "the next request"
    CLOSE = "its end"


class HttpProtocol(HttpToolsProtocol):
    """A caller that breaks a limit gets ``error_response``, after the answers to its earlier
    requests, and its connection is closed.

    Subclasses say how errors look, and may check more of a head.
    """

    def __init__(self, *args: Any, limits: Limits | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits or Limits()
        # Of the scope of each request.
        self.extensions: dict[str, Any] = {}
        self.transfer_encoding: bytes | None = None
        # Anything but 100-continue.
        self.expects_otherwise = False
        self._requests = 0
        self._head_bytes = 0
        self._in_request = False
        self._in_head = False
        self._head_error = HTTPStatus.BAD_REQUEST
        self._is_refused = False
        self._pending_error: HTTPStatus | None = None
        self._running: RequestResponseCycle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._last_state: tuple[Waiting, int, int] | None = None
        self._last_change = 0.0

    def error_response(self, status: HTTPStatus) -> tuple[str, bytes]:
        """Content type and body."""
        raise NotImplementedError

    def check_head(self) -> HTTPStatus | None:
        """The status to refuse a request with, before anything is done for it."""
        limits = self.limits
        version = self.parser.get_http_version()
        if version not in _VERSIONS:
            return HTTPStatus.BAD_REQUEST
        if len(self.headers) > limits.headers:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        if self._head_bytes > limits.head_bytes and self._exact_head_bytes() > limits.head_bytes:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        coding = self.transfer_encoding
        if coding is not None and (coding != b"chunked" or version == "1.0"):
            # Readers differ over anything else, and over where the body ends then.
            return HTTPStatus.BAD_REQUEST
        return None

    def parse_error(self, error: httptools.HttpParserError, start: bytes) -> HTTPStatus:
        """The status for what is not HTTP. ``start`` is the beginning of the request, b"" where the
        error is not in the first piece of it."""
        return HTTPStatus.BAD_REQUEST

    # Called by the event loop.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        beyond = len(self.connections) - self.limits.connections
        if beyond > _MAX_LINGERING:
            self.transport.abort()
        elif beyond > 0:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.pipeline.clear()
        if self._linger_timer is not None:
            # A timer that is left to run keeps the connection in memory.
            self._linger_timer.cancel()
        if self._running is not None:
            # uvicorn tells only the newest request, which may be another one.
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        is_start = not self._in_request
        if is_start:
            self._head_bytes = len(data)
        elif self._in_head:
            self._head_bytes += len(data)
        cycle = self.cycle
        remaining = data
        while remaining:
            try:
                self.parser.feed_data(remaining)
                break
            except httptools.HttpParserUpgrade as upgrade:
                # Nobody here speaks anything else, so it stays HTTP/1.1; the next request follows.
                remaining = remaining[upgrade.args[0] :]
            except httptools.HttpParserCallbackError:
                self.refuse(self._head_error)
                return
            except httptools.HttpParserError as error:
                start = data if is_start and self.cycle is cycle else b""
                self.refuse(self.parse_error(error, start))
                return
        if self._in_head:
            limits = self.limits
            if self._head_bytes > limits.head_bytes or len(self.headers) > limits.headers:
                self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._requests += 1
        self._in_request = True
        self._in_head = True
        self.url = b""
        self.expect_100_continue = False
        self.expects_otherwise = False
        self.transfer_encoding = None
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
            "extensions": self.extensions,
        }

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect":
            is_continue = value.lower() == b"100-continue"
            self.expect_100_continue = self.expect_100_continue or is_continue
            self.expects_otherwise = self.expects_otherwise or not is_continue
        elif name == b"transfer-encoding":
            if self.transfer_encoding is not None:
                value = self.transfer_encoding + b"," + value
            self.transfer_encoding = value
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if error := self.check_head():
            self._head_error = error
            # httptools makes an HttpParserCallbackError of it.
            raise ValueError(error)
        self._in_head = False
        parser, scope, url = self.parser, self.scope, self.url
        version = parser.get_http_version()
        scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        scope[TARGET] = url  # type: ignore[literal-required]
        if url.startswith(b"/") and b"#" not in url and not url.startswith(b"//"):
            raw_path, _, query = url.partition(b"?")
        else:
            parsed = httptools.parse_url(url)
            raw_path, query = parsed.path, parsed.query or b""
        path = raw_path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query
        previous = self.cycle
        keep_alive = version != "1.0" and parser.should_keep_alive()
        self.cycle = cycle = RequestCycle(self, keep_alive=keep_alive)
        if previous is None or previous.response_complete:
            self._running = cycle
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_message_complete(self) -> None:
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
        self._in_request = False
        self._head_bytes = 0

    # Called by the request cycle.

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            if self.flow.read_paused:
                self.flow.resume_reading()
            if self.pipeline:
                cycle, app = self.pipeline.pop()
                self._running = cycle
                self._start_asgi_task(cycle, app)
                return
        if self._pending_error is not None and not self.pipeline:
            self._send_error(self._pending_error)

    def refuse(self, status: HTTPStatus) -> None:
        """Whatever comes after this is not read."""
        if self._is_refused:
            return
        self._is_refused = True
        cycle = self.cycle
        if cycle is not None and self._in_request and not self._in_head:
            # The error lies in the body of a request that is already being answered, or waits for
            # its turn.
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
            elif cycle.response_started:
                self.transport.close()
                return
            else:
                cycle.disconnected = True
                cycle.message_event.set()
                self._send_error(status)
                return
        if self.pipeline or self._is_answering():
            self._pending_error = status
        else:
            self._send_error(status)

    def sweep(self, now: float) -> None:
        """End the connection if it has stood still for too long."""
        state = self._state()
        if state != self._last_state:
            self._last_state = state
            self._last_change = now
            return
        waiting, _, unsent_bytes = state
        limit_s = self._limit_s(waiting, unsent_bytes)
        if not limit_s or now - self._last_change < limit_s:
            return
        if waiting in (Waiting.HEAD, Waiting.BODY):
            self.refuse(HTTPStatus.REQUEST_TIMEOUT)
        elif waiting is Waiting.REQUEST and not unsent_bytes:
            self.transport.close()
        else:
            self.transport.abort()

    def _state(self) -> tuple[Waiting, int, int]:
        """What it waits for, in which request, and how much of an answer is not sent yet."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if self._is_refused or self.transport.is_closing():
            waiting = Waiting.CLOSE
        elif self._in_request and not self.flow.read_paused:
            waiting = Waiting.HEAD if self._in_head else Waiting.BODY
        elif self.pipeline or (self.cycle is not None and not self.cycle.response_complete):
            waiting = Waiting.ANSWER
        else:
            waiting = Waiting.REQUEST
        return waiting, self._requests, unsent_bytes

    def _limit_s(self, waiting: Waiting, unsent_bytes: int) -> float:
        limits = self.limits
        match waiting:
            case Waiting.HEAD:
                return limits.head_s
            case Waiting.BODY:
                return limits.body_s
            case Waiting.ANSWER:
                return limits.send_s if unsent_bytes else 0.0
            case Waiting.CLOSE:
                return limits.send_s if self._pending_error is None else 0.0
        return limits.idle_s if self._requests else limits.first_byte_s

    def _is_answering(self) -> bool:
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.disconnected

    def _exact_head_bytes(self) -> int:
        """What came in one piece with the head's end may belong to the body."""
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value) + 4
        return size

    def _send_error(self, status: HTTPStatus) -> None:
        self._pending_error = None
        if self.transport.is_closing():
            return
        content_type, body = self.error_response(status)
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"content-type: {content_type}",
            f"content-length: {len(body)}",
        ]
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            lines.append("retry-after: 1")
        lines.append("connection: close\r\n\r\n")
        self.transport.write("\r\n".join(lines).encode() + body)
        self.flow.resume_reading()
        self.transport.write_eof()
        # Closed at once, a connection whose other end still sends would be reset, and the answer
        # lost with it.
        self._linger_timer = self.loop.call_later(_LINGER_S, self.transport.close)
