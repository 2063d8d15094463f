"""HTTP/1.1 to one backend over kept connections: requests of our own wording, one at a time each.

Written by hand on httptools because no library was cheap enough. One call and its answer cost 14 us
of CPU here, 39 with pyreqwest, 99 with aiohttp; the gateway may spend 90 on everything.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import cast

import httptools

from gateway.errors import BackendDown
from gateway.upstream.address import Address
from gateway.upstream.base import CutOff, Reply
from headrace.protocol.errors import DeadlineExceeded, HeadraceError

# Below the 5 s after which common servers hang up, so that a call hardly ever meets a closing
# connection.
_MAX_IDLE_S = 4.0
_MAX_HEAD_BYTES = 64 * 1024
# Up to here, joining head and body costs less than a second write.
_MAX_JOINED_BYTES = 64 * 1024
# Paths are ours (model, version, verb), so they are few; callers cannot fill this.
_MAX_CACHED_PATHS = 4096
# How early a timer of the event loop may fire.
_TIMER_TOLERANCE_S = 0.001
_JSON = "application/json"

_HUGE_HEAD = f"the head of the serving backend's answer is over {_MAX_HEAD_BYTES} bytes"
_NOT_HTTP = "the serving backend's answer is not valid HTTP"
_NOT_CHUNKED = "the serving backend's answer has a Transfer-Encoding other than chunked"
_TWO_ANSWERS = "the serving backend answered twice"
_CUT_OFF = "the serving backend closed the connection before its answer was complete"


class Pool:
    """At most ``connections`` to one backend, each with one call under way; further calls wait in
    line.

    Nothing is ever sent twice from here. Once a byte is written nobody can tell how much of it the
    backend has read, even if the connection closes without an answer: that is CutOff. BackendDown
    alone promises that nothing was sent, so that another backend may be asked instead.
    """

    def __init__(
        self,
        address: Address,
        *,
        connections: int,
        connect_timeout_s: float,
        max_answer_bytes: int = 2**30,
    ) -> None:
        self.address = address
        self._connect_timeout_s = connect_timeout_s
        self._max_answer_bytes = max_answer_bytes
        # How many more calls may be under way.
        self._free = connections
        # The last used at the end, so that those that are not needed grow old and go.
        self._idle: list[_Connection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._all: set[_Connection] = set()
        # By path: its part of the request line, and the Host header.
        self._heads: dict[str, bytes] = {}

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        timeout_s: float,
        request_id: str = "",
        content_type: str = _JSON,
    ) -> Reply:
        deadline = time.monotonic() + timeout_s
        if self._free and not self._waiting:
            self._free -= 1
        else:
            await self._wait_in_line(timeout_s)
        try:
            connection = self._idle_connection()
            if connection is None:
                connection = await self._open(deadline, timeout_s)
            head = self._head(method, path, body, request_id, content_type)
            try:
                return await connection.send(head, body, deadline, timeout_s)
            finally:
                if connection.finish():
                    self._idle.append(connection)
                else:
                    # Cancelled, failed, or this answer was its last.
                    self._all.discard(connection)
        finally:
            if self._waiting:
                self._let_next_go()
            else:
                self._free += 1

    async def close(self) -> None:
        for connection in tuple(self._all):
            connection.abort()
        self._all.clear()
        self._idle.clear()

    async def _wait_in_line(self, timeout_s: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                # Our turn came just as we stopped waiting.
                self._let_next_go()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                text = f"every connection to the serving backend was busy for {timeout_s:.3g} s"
                raise DeadlineExceeded(text) from None
            raise

    def _let_next_go(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _idle_connection(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open and time.monotonic() - connection.answered_at < _MAX_IDLE_S:
                return connection
            connection.abort()
            self._all.discard(connection)
        return None

    async def _open(self, deadline: float, timeout_s: float) -> _Connection:
        left_s = deadline - time.monotonic()
        try:
            async with asyncio.timeout(min(left_s, self._connect_timeout_s)):
                connection = await self._connect()
        except TimeoutError as error:
            if left_s <= self._connect_timeout_s:
                raise DeadlineExceeded(_late(timeout_s)) from error
            raise self._unreachable("no connection in time") from error
        except OSError as error:
            cause = error.strerror or str(error)
            raise self._unreachable(cause.lower()) from error
        self._all.add(connection)
        return connection

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()

        def protocol() -> _Connection:
            return _Connection(loop, self._max_answer_bytes)

        if self.address.path:
            _, connection = await loop.create_unix_connection(protocol, self.address.path)
        else:
            _, connection = await loop.create_connection(
                protocol, self.address.host, self.address.port
            )
        return connection

    def _unreachable(self, cause: str) -> BackendDown:
        return BackendDown(f"the serving backend at {self.address} cannot be reached: {cause}")

    def _head(
        self, method: str, path: str, body: bytes | None, request_id: str, content_type: str
    ) -> bytes:
        start = self._heads.get(path)
        if start is None:
            if len(self._heads) >= _MAX_CACHED_PATHS:
                self._heads.clear()
            start = f"{path} HTTP/1.1\r\nHost: {self.address.authority}\r\n".encode("ascii")
            self._heads[path] = start
        headers = f"X-Request-Id: {request_id}\r\n" if request_id else ""
        if body is not None:
            headers += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        return b"%b %b%b\r\n" % (method.encode(), start, headers.encode())


class _Connection(asyncio.Protocol):
    """One connection and the one call on it. httptools calls the on_ methods.

    Whether bytes that nobody asked for belong to this answer or are the next one cannot be told;
    so a connection on which they come is given up.
    """

    __slots__ = (
        "_answer",
        "_body",
        "_body_bytes",
        "_content_type",
        "_deadline",
        "_fault",
        "_has_length",
        "_head_bytes",
        "_in_head",
        "_is_last",
        "_loop",
        "_max_bytes",
        "_parser",
        "_reply",
        "_timeout_s",
        "_timer",
        "_timer_at",
        "_transport",
        "answered_at",
        "open",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, max_answer_bytes: int) -> None:
        self._loop = loop
        self._max_bytes = max_answer_bytes
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self.open = False
        # When the last answer was complete.
        self.answered_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = self._deadline = self._timeout_s = 0.0
        # What the call waits for; None while there is no call.
        self._answer: asyncio.Future[Reply] | None = None
        # A whole answer that was read and not given yet.
        self._reply: Reply | None = None
        # The backend closes the connection after this answer.
        self._is_last = False
        # What is wrong with the answer.
        self._fault: str | None = None
        self._head_bytes = 0
        self._begin_answer()

    def send(
        self, head: bytes, body: bytes | None, deadline: float, timeout_s: float
    ) -> asyncio.Future[Reply]:
        self._answer = self._loop.create_future()
        self._deadline, self._timeout_s = deadline, timeout_s
        if self._timer is None or deadline < self._timer_at:
            self._start_timer()
        if body is None:
            self._transport.write(head)
        elif len(body) <= _MAX_JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return self._answer

    def finish(self) -> bool:
        """The call is over: whether the connection can take another. If not it is closed now."""
        answer, self._answer = self._answer, None
        has_answered = (
            answer is not None
            and answer.done()
            and not answer.cancelled()
            and answer.exception() is None
        )
        # A backend that answers before it has read everything would take what is left for the next
        # request.
        if has_answered and self.open and not self._transport.get_write_buffer_size():
            self.answered_at = time.monotonic()
            return True
        self.abort()
        return False

    def abort(self) -> None:
        self.open = False
        self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Uvloop's are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.abort()
            return
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fault = self._fault or _NOT_HTTP
        if self._in_head and self._head_bytes > _MAX_HEAD_BYTES:
            self._fault = self._fault or _HUGE_HEAD
        if self._fault is not None:
            # Also where a whole answer came before it.
            self._fail(CutOff(self._fault))
        elif self._reply is not None:
            self._give_reply()

    def eof_received(self) -> None:
        if not self._in_head and not self._has_length and self._fault is None:
            # Without a length, the end of the connection is the end of the answer.
            self._complete()
            self._give_reply()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(CutOff(_CUT_OFF))

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if len(value) > _MAX_HEAD_BYTES:
            self._fault = _HUGE_HEAD
        if name == b"content-type":
            self._content_type = value
        elif name == b"content-length":
            self._has_length = True
            # The parser lets only digits through.
            if int(value) > self._max_bytes:
                self._refuse_size()
        elif name == b"transfer-encoding":
            self._has_length = True
            if value.strip().lower() != b"chunked":
                self._fault = _NOT_CHUNKED

    def on_headers_complete(self) -> None:
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._max_bytes:
            self._refuse_size()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200 and self._fault is None:
            # An interim answer. They share one allowance of head, or they could go on for ever.
            head_bytes = self._head_bytes
            self._begin_answer()
            self._head_bytes = head_bytes
            return
        self._complete()

    def _begin_answer(self) -> None:
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._content_type = b"application/json"
        self._in_head = True
        self._has_length = False

    def _complete(self) -> None:
        if self._reply is not None:
            self._fault = _TWO_ANSWERS
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        content_type = self._content_type.decode("latin-1")
        self._reply = Reply(self._parser.get_status_code(), content_type, body)
        self._is_last = not self._parser.should_keep_alive()
        self._begin_answer()

    def _give_reply(self) -> None:
        reply, self._reply = self._reply, None
        if self._answer is not None and not self._answer.done() and reply is not None:
            self.open = self.open and not self._is_last
            self._answer.set_result(reply)

    def _refuse_size(self) -> None:
        self._fault = f"the serving backend's answer is over {self._max_bytes} bytes"

    def _fail(self, error: HeadraceError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.abort()

    def _start_timer(self) -> None:
        """One timer a connection, left ticking from call to call: a new one for each costs 3 us."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self._loop.call_later(self._deadline - time.monotonic(), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._answer is None:
            return
        if self._deadline - time.monotonic() > _TIMER_TOLERANCE_S:
            self._start_timer()
        else:
            self._fail(DeadlineExceeded(_late(self._timeout_s)))


def _late(timeout_s: float) -> str:
    return f"the serving backend did not answer within {timeout_s:.3g} s"
