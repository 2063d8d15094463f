"""Reading a request body: never more than the limit, gzip inflated under the same limit.

What was inflated is forwarded inflated: the bytes that were checked are the bytes that travel.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from gateway.errors import RequestTimeout, UnsupportedEncoding
from headrace.protocol.errors import BodyTooLarge, InvalidArgument

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

_DRAIN_S = 5.0
_DRAIN_BYTES = 2**30
# A thousand times that, at most, is 5 ms of everybody's time.
_INFLATED_AT_ONCE_BYTES = 4096


class Disconnected(Exception):
    """The caller went away; nobody is left to answer."""


class Incoming:
    """A request's messages, and whether the last has come: waiting for more is waiting for the
    caller to go."""

    __slots__ = ("_receive", "ended")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.ended = True
        return message


async def read(
    headers: Mapping[bytes, bytes], receive: Receive, *, limit: int, timeout_s: float
) -> bytes:
    """The body as the backend will get it."""
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding not in (b"", b"identity", b"gzip", b"x-gzip"):
        raise UnsupportedEncoding(
            f'Content-Encoding "{encoding[:40].decode("latin-1")}" is not supported; gzip or none '
            "is"
        )
    declared = headers.get(b"content-length")
    # The HTTP parser lets only digits through.
    if declared is not None and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Disconnected
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        try:
            async with asyncio.timeout(timeout_s):
                body = await _rest(body, receive, limit=limit)
        except TimeoutError:
            raise RequestTimeout(
                f"the request body did not arrive within {timeout_s:g} s"
            ) from None
    if len(body) > limit:
        raise _too_large(limit)
    if not encoding.endswith(b"gzip"):
        return body
    if len(body) <= _INFLATED_AT_ONCE_BYTES:
        return inflate(body, limit=limit)
    return await asyncio.to_thread(inflate, body, limit=limit)


async def drain(headers: Mapping[bytes, bytes], incoming: Incoming) -> None:
    """Swallow what a caller is still sending, within reason, so that it gets to read why it was
    refused."""
    if b"expect" in headers:
        # It waits for our word before it sends.
        return
    left = _DRAIN_BYTES
    try:
        async with asyncio.timeout(_DRAIN_S):
            while left > 0 and not incoming.ended:
                left -= len((await incoming()).get("body", b""))
    except TimeoutError:
        return


def inflate(body: bytes, *, limit: int) -> bytes:
    """One complete gzip member; anything else, a second member or a bad checksum too, is the
    caller's error."""
    reader = zlib.decompressobj(wbits=31)
    try:
        plain = reader.decompress(body, limit + 1)
    except zlib.error as e:
        raise InvalidArgument(f"the gzip body is broken: {e}") from e
    if len(plain) > limit:
        raise _too_large(limit)
    if not reader.eof:
        raise InvalidArgument("the gzip body is cut short")
    if reader.unused_data:
        raise InvalidArgument("bytes follow the end of the gzip body")
    return plain


async def _rest(first: bytes, receive: Receive, *, limit: int) -> bytes:
    parts, size = [first], len(first)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit} bytes (HEADRACE_MAX_BODY_BYTES)")
