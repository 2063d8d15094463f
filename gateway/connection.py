"""One caller's connection: uvicorn's protocol, an answer in one write, a word when the caller is gone, our errors."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, cast

from gateway import errors
from gateway.hangup import EXTENSION, HangUps
from gateway.settings import Settings, variable
from headrace.server.connection import LimitedConnection, Limits
from headrace.wire.errors import InvalidArgument, Unavailable

_HELD_BYTES = 64 * 1024


_REASONS = {
    HTTPStatus.BAD_REQUEST: "the request is not valid HTTP",
    HTTPStatus.EXPECTATION_FAILED: "Expect: of something else than 100-continue",
    HTTPStatus.REQUEST_TIMEOUT: "the request did not arrive in time",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        f"the request's head is too large ({variable('max_header_bytes')}, {variable('max_headers')})"
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: f"too many connections ({variable('max_connections')})",
}


def limits(s: Settings) -> Limits:
    return Limits(
        connections=s.max_connections,
        head_bytes=s.max_header_bytes,
        headers=s.max_headers,
        first_byte_s=s.first_byte_s,
        head_s=s.head_s,
        body_s=s.body_s,
        send_s=s.send_s,
        idle_s=s.idle_s,
    )


class Connection(LimitedConnection):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._hang_ups: HangUps = set()
        self._extensions = {EXTENSION: self._hang_ups}
        corked = Corked(cast(asyncio.Transport, transport), asyncio.get_running_loop())
        super().connection_made(cast(asyncio.Transport, corked))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for hang_up in tuple(self._hang_ups):
            hang_up()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]

    def objection(self) -> HTTPStatus | None:
        if b"#" in self.url:
            return HTTPStatus.BAD_REQUEST  # TensorFlow Serving takes a fragment for a part of the path
        if any(name == b"expect" and value.lower() != b"100-continue" for name, value in self.headers):
            return HTTPStatus.EXPECTATION_FAILED
        return super().objection()

    def refusal(self, status: HTTPStatus) -> tuple[str, bytes]:
        """What does not get as far as a call is refused in the shape of every other error."""
        kind = Unavailable if status is HTTPStatus.SERVICE_UNAVAILABLE else InvalidArgument
        return "application/json", errors.body(kind(_REASONS[status]))


class Corked:
    """A transport that keeps an answer's head back until its body comes, so that both go in one write.

    uvicorn writes them apart and uvloop sends each at once: a system call of 15 us more, and a caller woken twice.
    """

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        if self._held:
            held, self._held = self._held, b""
            if len(data) > _HELD_BYTES:
                self._transport.writelines((held, data))
            else:
                self._transport.write(held + data)
        elif len(data) > _HELD_BYTES:
            self._transport.write(data)
        else:
            self._held = data
            self._loop.call_soon(self._flush)  # nothing is kept longer than the turn it was written in

    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)
