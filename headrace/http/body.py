"""The body of a request: read within its limits, inflated within them, or discarded."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from headrace.protocol.errors import BodyTooLarge, InvalidArgument, RequestTimeout

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

_DISCARD_S = 5.0
_DISCARD_BYTES = 1 << 30
_GZIP = 16 + zlib.MAX_WBITS


class Disconnected(Exception):
    """The caller has left; nobody is there to answer."""


async def read(
    receive: Receive,
    headers: Mapping[bytes, bytes],
    *,
    limit: int,
    setting: str,
    timeout_s: float | None = None,
) -> bytes:
    """The whole body as it was sent. ``setting`` is the name of what sets the limit."""
    # The HTTP parser lets only digits through.
    if int(headers.get(b"content-length") or 0) > limit:
        raise _too_large(limit, setting)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Disconnected
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        try:
            async with asyncio.timeout(timeout_s):
                return await _read_on(body, receive, limit, setting)
        except TimeoutError:
            raise RequestTimeout(
                f"the request body did not arrive within {timeout_s:g} s"
            ) from None
    if len(body) > limit:
        raise _too_large(limit, setting)
    return body


async def _read_on(first: bytes, receive: Receive, limit: int, setting: str) -> bytes:
    parts, size = [first], len(first)
    is_last = False
    while not is_last:
        if size > limit:
            raise _too_large(limit, setting)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        is_last = not message.get("more_body", False)
    if size > limit:
        raise _too_large(limit, setting)
    return b"".join(parts)


async def discard(receive: Receive) -> None:
    """Swallow the rest of a body that was refused, within reason.

    A caller that still sends when its connection is closed does not get to read why.
    """
    left = _DISCARD_BYTES
    is_last = False
    try:
        async with asyncio.timeout(_DISCARD_S):
            while left > 0 and not is_last:
                message = await receive()
                left -= len(message.get("body", b""))
                is_last = not message.get("more_body", False)
    except TimeoutError:
        return


def inflate(body: bytes, *, limit: int, setting: str) -> bytes:
    """One whole gzip member; nothing may follow it."""
    inflater = zlib.decompressobj(wbits=_GZIP)
    try:
        data = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidArgument(f"the gzip body is broken: {error}") from error
    if len(data) > limit:
        raise _too_large(limit, setting)
    if not inflater.eof:
        raise InvalidArgument("the gzip body is cut short")
    if inflater.unused_data:
        raise InvalidArgument("bytes follow the end of the gzip body")
    return data


def _too_large(limit: int, setting: str) -> BodyTooLarge:
    return BodyTooLarge(f"the request body is larger than {limit} bytes ({setting})")
