"""One caller's HTTP connection within limits: how much it may send as a request's head, and how
long it may take.

uvicorn's protocol over httptools, and no more known of it here than both our REST doors need; how a
refusal looks is theirs. Nothing is timed call by call: a sweep over all connections, twice a
second, sees which one stands still.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from headrace.http.protocol import HttpProtocol

_LINGER_S = 2.0
# Connections beyond the limit that get to read why; further ones are just closed.
_LINGERING = 64
# Of uvicorn's, a tenth of a second each.
_TICKS = 5
# Models, gRPC, the gateway's own connections.
_OTHER_DESCRIPTORS = 1024
_VERSIONS = ("1.1", "1.0")


# Of uvicorn.Config: nothing of its own logging, and no timer for kept connections, which the sweep
# closes.
UVICORN_OPTIONS: Mapping[str, Any] = {
    "ws": "none",
    "log_config": None,
    "access_log": False,
    "proxy_headers": False,
    "server_header": False,
    "timeout_keep_alive": 1 << 30,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a stranger may take; times in seconds, 0 = no end."""

    connections: int = 4096
    head_bytes: int = 128 << 10
    headers: int = 128
    first_byte_s: float = 60.0
    head_s: float = 10.0
    body_s: float = 120.0
    send_s: float = 60.0
    idle_s: float = 300.0


class LimitedHttpProtocol(HttpProtocol):
    """Answers a breach with ``refusal`` and closes; in its turn, where requests before it are still
    being answered."""

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits
        self._messages = self._head_bytes = 0
        self._in_message = self._in_head = self._is_refused = False
        self._owed: HTTPStatus | None = None
        self._running: RequestResponseCycle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._breach = HTTPStatus.BAD_REQUEST
        self._seen: tuple[str, int, int] = ("", 0, 0)
        self._seen_at = 0.0

    def refusal(self, status: HTTPStatus) -> tuple[str, bytes]:
        """Content type and body."""
        raise NotImplementedError

    def objection(self) -> HTTPStatus | None:
        """To a whole head, before anything is done for it."""
        limits = self.limits
        if self.parser.get_http_version() not in _VERSIONS:
            return HTTPStatus.BAD_REQUEST
        if len(self.headers) > limits.headers:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        if self._head_bytes > limits.head_bytes:
            # What came in one piece with the head's end may be its body's.
            exact = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if exact > limits.head_bytes:
                return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        for name, _ in self.headers:
            if name == b"transfer-encoding":
                break
        else:
            return None
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if codings != [b"chunked"] or self.parser.get_http_version() == "1.0":
            # Readers differ over anything else, and over where the body ends then.
            return HTTPStatus.BAD_REQUEST
        return None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def fault(self, error: httptools.HttpParserError, data: bytes) -> HTTPStatus:
        """Of what is not HTTP; ``data`` is what came, where that is the beginning of the request at
        fault."""
        return HTTPStatus.BAD_REQUEST

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        beyond = len(self.connections) - self.limits.connections
        if beyond > _LINGERING:
            self.transport.abort()
        elif beyond > 0:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.pipeline.clear()
        if self._lingering is not None:
            # A timer that is left to run keeps the connection in memory.
            self._lingering.cancel()
        if self._running is not None:
            # Uvicorn tells the newest request alone, which may be another.
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if not self._in_message:
            self._head_bytes = len(data)
        elif self._in_head:
            self._head_bytes += len(data)
        is_start, cycle, breach = not self._in_message, self.cycle, None
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError:
            breach = self._breach
        except httptools.HttpParserError as error:
            breach = self.fault(error, data if is_start and self.cycle is cycle else b"")
        if breach is not None:
            self.refuse(breach)
            return
        is_long = self._head_bytes > self.limits.head_bytes
        if self._in_head and (is_long or len(self.headers) > self.limits.headers):
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._messages += 1
        self._in_message = self._in_head = True

    def on_headers_complete(self) -> None:
        if status := self.objection():
            self._breach = status
            # Httptools makes an HttpParserCallbackError of it.
            raise ValueError(status)
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_message = False
        self._head_bytes = 0

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if self._owed and is_last:
            self._tell(self._owed)

    def refuse(self, status: HTTPStatus) -> None:
        """Whatever comes after this is not looked at."""
        if self._is_refused:
            return
        self._is_refused = True
        cycle = self.cycle
        if cycle is not None and self._in_message and not self._in_head:
            # The fault lies in the body of a request that is already being answered, or waits for
            # its turn.
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
            elif cycle.response_started:
                self.transport.close()
                return
            else:
                cycle.disconnected = True
                cycle.message_event.set()
                self._tell(status)
                return
        if self.pipeline or (
            cycle is not None and not cycle.response_complete and not cycle.disconnected
        ):
            self._owed = status
        else:
            self._tell(status)

    def sweep(self, now: float) -> None:
        """Ends what has stood still for too long."""
        seen = self._state()
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
            return
        limit_s = self._patience_s(seen[0], held=seen[2])
        if not limit_s or now - self._seen_at < limit_s:
            return
        match seen[0]:
            case "head" | "body":
                self.refuse(HTTPStatus.REQUEST_TIMEOUT)
            case "idle" if not seen[2]:
                self.transport.close()
            case _:
                self.transport.abort()

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stop:
                # Nobody here speaks anything else, so it stays HTTP/1.1; what follows is the next
                # request.
                data = data[stop.args[0] :]

    def _state(self) -> tuple[str, int, int]:
        """What is waited for, of which request, and how much of an answer the caller has not taken
        yet."""
        held = self.transport.get_write_buffer_size()
        if self._is_refused or self.transport.is_closing():
            return "end", self._messages, held
        if self._in_message and not self.flow.read_paused:
            return ("head" if self._in_head else "body"), self._messages, held
        if self.pipeline or (self.cycle is not None and not self.cycle.response_complete):
            return "answer", self._messages, held
        return "idle", self._messages, held

    def _patience_s(self, waits_for: str, *, held: int) -> float:
        limits = self.limits
        match waits_for:
            case "head":
                return limits.head_s
            case "body":
                return limits.body_s
            case "answer":
                return limits.send_s if held else 0.0
            case "end":
                return 0.0 if self._owed else limits.send_s
        return limits.idle_s if self._messages else limits.first_byte_s

    def _tell(self, status: HTTPStatus) -> None:
        self._owed = None
        if self.transport.is_closing():
            return
        content_type, body = self.refusal(status)
        retry = "retry-after: 1\r\n" if status is HTTPStatus.SERVICE_UNAVAILABLE else ""
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {content_type}\r\n"
            f"content-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.flow.resume_reading()
        self.transport.write_eof()
        # Closed at once, a connection whose other end still sends would be reset, and the answer
        # lost with it.
        self._lingering = self.loop.call_later(_LINGER_S, self.transport.close)


def allow_descriptors(connections: int) -> None:
    """As many as the connections and everything else need, if the system lets us: many start with
    1,024."""
    wanted = connections + _OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


class LimitedServer(uvicorn.Server):
    """Sweeps its connections."""

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, LimitedHttpProtocol):
                    connection.sweep(now)
        return await super().on_tick(counter)
