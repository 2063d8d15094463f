"""What the gateway takes of a request's body: plain or gzip, which it inflates.

An inflated body is forwarded inflated: the bytes that were checked are the bytes that travel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from headrace.http import body
from headrace.http.body import Message, Receive
from headrace.protocol.errors import UnsupportedMedia
from headrace.settings import variable

# Names the limit in error texts.
LIMIT = variable("max_body_bytes")

# A thousand times as much, inflated, keeps the event loop for 5 ms at most.
_INFLATED_IN_THE_LOOP_BYTES = 4096


class Incoming:
    """A request's messages. After the last one, receive() waits for the caller to leave."""

    __slots__ = ("_receive", "ended")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.ended = True
        return message


def is_gzip(headers: Mapping[bytes, bytes]) -> bool:
    """UnsupportedMedia for any other content-encoding."""
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding in (b"gzip", b"x-gzip"):
        return True
    if encoding not in (b"", b"identity"):
        name = encoding[:40].decode("latin-1")
        raise UnsupportedMedia(f'Content-Encoding "{name}" is not supported; gzip or none is')
    return False


async def inflate(compressed: bytes, *, limit: int) -> bytes:
    if len(compressed) <= _INFLATED_IN_THE_LOOP_BYTES:
        return body.inflate(compressed, limit=limit, setting=LIMIT)
    return await asyncio.to_thread(body.inflate, compressed, limit=limit, setting=LIMIT)


async def discard(headers: Mapping[bytes, bytes], incoming: Incoming) -> None:
    """The rest of a refused body; a caller that expects 100-continue has not begun to send it."""
    if b"expect" not in headers and not incoming.ended:
        await body.discard(incoming)
