"""HTTP/1.1 to one backend over kept connections: a request of our own wording, one answer, nothing
else.

By hand on httptools because nothing kept was cheap enough. One call and its answer, CPU alone: this
14 us, pyreqwest 39 us, aiohttp 99 us; the gateway may spend 90 on everything.
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
_IDLE_S = 4.0
_MAX_HEAD_BYTES = 64 * 1024
_HUGE_HEAD = f"the head of the serving backend's answer is over {_MAX_HEAD_BYTES} bytes"
# Up to here, joining head and body costs less than a second write.
_ONE_WRITE_BYTES = 64 * 1024
_JSON = "application/json"


class Pool:
    """At most ``connections`` to one backend, each with one call under way; further calls wait in
    line.

    Nothing is ever sent twice from here. Once a byte is written nobody can tell how much of it the
    backend has read, a connection that closes without an answer included: that is CutOff.
    BackendDown alone promises that nothing was sent, so that who knows another backend may ask that
    one.
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
        self._free = connections
        # The freshest last, so that what is not needed grows old and goes.
        self._idle: list[_Connection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._all: set[_Connection] = set()
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
            await self._turn(timeout_s)
        try:
            connection = self._kept() or await self._opened(deadline, timeout_s)
            head = self._head(method, path, body, request_id, content_type)
            try:
                reply = await connection.ask(head, body, deadline, timeout_s)
            finally:
                if not connection.finish():
                    # Cancelled, failed, or the answer's last: the backend sees it closed.
                    self._all.discard(connection)
                else:
                    self._idle.append(connection)
            return reply
        finally:
            self._next()

    async def close(self) -> None:
        for connection in tuple(self._all):
            connection.abort()
        self._all.clear()
        self._idle.clear()

    async def _turn(self, timeout_s: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except BaseException as e:
            if turn.done() and not turn.cancelled():
                # It was ours just as we stopped waiting.
                self._next()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(e, TimeoutError):
                text = f"every connection to the serving backend was busy for {timeout_s:.3g} s"
                raise DeadlineExceeded(text) from None
            raise

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open and time.monotonic() - connection.since < _IDLE_S:
                return connection
            connection.abort()
            self._all.discard(connection)
        return None

    async def _opened(self, deadline: float, timeout_s: float) -> _Connection:
        loop = asyncio.get_running_loop()
        left = deadline - time.monotonic()

        def made() -> _Connection:
            return _Connection(loop, self._max_answer_bytes)

        try:
            async with asyncio.timeout(min(left, self._connect_timeout_s)):
                if self.address.path:
                    _, connection = await loop.create_unix_connection(made, self.address.path)
                else:
                    _, connection = await loop.create_connection(
                        made, self.address.host, self.address.port
                    )
        except TimeoutError as e:
            if left <= self._connect_timeout_s:
                raise DeadlineExceeded(_late(timeout_s)) from e
            raise BackendDown(
                f"the serving backend at {self.address} cannot be reached: no connection in time"
            ) from e
        except OSError as e:
            cause = (e.strerror or str(e)).lower()
            raise BackendDown(
                f"the serving backend at {self.address} cannot be reached: {cause}"
            ) from e
        self._all.add(connection)
        return connection

    def _head(
        self, method: str, path: str, body: bytes | None, request_id: str, content_type: str
    ) -> bytes:
        # The paths are ours (model, version, verb), so they are few.
        first = self._heads.get(path)
        if first is None:
            if len(self._heads) >= 4096:
                self._heads.clear()
            first = self._heads[path] = (
                f"{path} HTTP/1.1\r\nHost: {self.address.authority}\r\n".encode("ascii")
            )
        of_id = f"X-Request-Id: {request_id}\r\n" if request_id else ""
        if body is None:
            return b"%b %b%b\r\n" % (method.encode(), first, of_id.encode())
        rest = f"{of_id}Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        return b"%b %b%b" % (method.encode(), first, rest.encode())


class _Connection(asyncio.Protocol):
    """One connection and the one call on it. httptools calls the on_ methods."""

    __slots__ = (
        "_answer",
        "_body",
        "_broken",
        "_content_type",
        "_deadline",
        "_framed",
        "_head_bytes",
        "_in_head",
        "_is_last",
        "_loop",
        "_max_bytes",
        "_parser",
        "_reply",
        "_rings_at",
        "_size",
        "_timeout_s",
        "_timer",
        "_transport",
        "open",
        "since",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, max_answer_bytes: int) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = self._deadline = self._timeout_s = 0.0
        self.open = False
        # When the last answer was complete.
        self.since = 0.0
        self._max_bytes = max_answer_bytes
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Reply] | None = None
        self._transport: asyncio.Transport
        self._broken = ""
        self._head_bytes = 0
        self._reply: Reply | None = None
        self._is_last = False
        self._fresh()

    def ask(
        self, head: bytes, body: bytes | None, deadline: float, timeout_s: float
    ) -> asyncio.Future[Reply]:
        self._answer = answer = self._loop.create_future()
        self._deadline, self._timeout_s = deadline, timeout_s
        if self._timer is None or deadline < self._rings_at:
            self._arm()
        if body is None:
            self._transport.write(head)
        elif len(body) <= _ONE_WRITE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return answer

    def finish(self) -> bool:
        """The call is over. Whether the connection can take another; if not it is closed now."""
        answer, self._answer = self._answer, None
        whole = (
            answer is not None
            and answer.done()
            and not answer.cancelled()
            and answer.exception() is None
        )
        # A backend that answers before it has read everything would take what is left for the next
        # request.
        if whole and self.open and not self._transport.get_write_buffer_size():
            self.since = time.monotonic()
            return True
        self.abort()
        return False

    def _arm(self) -> None:
        """One timer a connection, left ticking from call to call: a new one for each costs 3 us."""
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = self._deadline
        self._timer = self._loop.call_later(self._deadline - time.monotonic(), self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._answer is None:
            return
        if self._deadline - time.monotonic() > 0.001:
            self._arm()
        else:
            self.fail(DeadlineExceeded, _late(self._timeout_s))

    def fail(self, kind: type[HeadraceError], text: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(kind(text))
        self.abort()

    def abort(self) -> None:
        self.open = False
        self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Uvloop's are no subclass.
        self._transport = cast(asyncio.Transport, transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            # Bytes that nobody asked for: whose answer the next one would be, nobody could tell.
            self.abort()
            return
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._broken = self._broken or "the serving backend's answer is not valid HTTP"
        if self._in_head and self._head_bytes > _MAX_HEAD_BYTES:
            self._broken = self._broken or _HUGE_HEAD
        if self._broken:
            # Also by what came along after a whole answer: whose it is, nobody can tell.
            self.fail(CutOff, self._broken)
        elif self._reply is not None:
            self._give()

    def eof_received(self) -> None:
        if not self._in_head and not self._framed and not self._broken:
            # Without a length, the end of the connection is the end of the answer.
            self._complete()
            self._give()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(
            CutOff, "the serving backend closed the connection before its answer was complete"
        )

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if len(value) > _MAX_HEAD_BYTES:
            self._broken = _HUGE_HEAD
        if name == b"content-type":
            self._content_type = value
        elif name == b"content-length":
            self._framed = True
            # Digits: the parser lets nothing else through.
            if int(value) > self._max_bytes:
                self._refuse_size()
        elif name == b"transfer-encoding":
            self._framed = True
            if value.strip().lower() != b"chunked":
                self._broken = (
                    "the serving backend's answer has a Transfer-Encoding other than chunked"
                )

    def on_headers_complete(self) -> None:
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._max_bytes:
            self._refuse_size()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200 and not self._broken:
            # Not a fresh allowance each: they could go on for ever.
            head_bytes = self._head_bytes
            self._fresh()
            self._head_bytes = head_bytes
            return
        self._complete()

    def _complete(self) -> None:
        if self._reply is not None:
            self._broken = "the serving backend answered twice"
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._reply = Reply(
            self._parser.get_status_code(), self._content_type.decode("latin-1"), body
        )
        self._is_last = not self._parser.should_keep_alive()
        self._fresh()

    def _give(self) -> None:
        reply, self._reply = self._reply, None
        if self._answer is not None and not self._answer.done() and reply is not None:
            self.open = self.open and not self._is_last
            self._answer.set_result(reply)

    def _refuse_size(self) -> None:
        self._broken = f"the serving backend's answer is over {self._max_bytes} bytes"

    def _fresh(self) -> None:
        self._body: list[bytes] = []
        self._size = 0
        self._head_bytes = 0
        self._content_type = b"application/json"
        self._in_head, self._framed = True, False


def _late(timeout_s: float) -> str:
    return f"the serving backend did not answer within {timeout_s:.3g} s"
