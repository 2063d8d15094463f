"""The body of a request: read within its limits, or left alone."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from headrace.protocol.errors import BodyTooLarge

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

_DISCARD_S = 10.0


class CallerGone(Exception):
    """The connection ended before the request did: nobody is there to answer."""


async def read(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    declared = headers.get(b"content-length", b"")
    # The HTTP parser lets only digits through.
    if int(declared or 0) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        whole: bytes = message.get("body", b"")
        if len(whole) > limit:
            raise _too_large(limit)
        return whole
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        if message["type"] == "http.disconnect":
            raise CallerGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        more = message.get("more_body", False)
        if more:
            message = await receive()
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def discard(receive: Receive) -> None:
    try:
        async with asyncio.timeout(_DISCARD_S):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        return


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit} bytes")


def inflate(body: bytes, limit: int) -> bytes:
    """As TF Serving has it, a body that does not inflate whole, or to too much, counts as none."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        data = inflater.decompress(body, limit)
    except zlib.error:
        return b""
    return data if inflater.eof and not inflater.unused_data else b""
