"""One caller's connection: uvicorn's protocol, an answer in one write, a word when the caller is gone, our errors."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway import errors
from gateway.hangup import EXTENSION, HangUps
from headrace.wire.errors import InvalidArgument

_HELD_BYTES = 64 * 1024


class Connection(HttpToolsProtocol):
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

    def send_400_response(self, msg: str) -> None:
        """What is not even HTTP is refused in the shape of every other error."""
        body = errors.body(InvalidArgument("the request is not valid HTTP"))
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        self.transport.close()


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
