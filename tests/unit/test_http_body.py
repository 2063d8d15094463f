"""Reading, inflating and discarding bodies, without a connection."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from headrace.http import body
from headrace.http.body import Disconnected, Receive
from headrace.protocol.errors import BodyTooLarge, InvalidArgument, RequestTimeout

LIMIT = 10


def request(*parts: bytes, ends: bool = True) -> Receive:
    """Messages with these parts; after them a caller that leaves, or sends nothing more."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": i + 1 < len(parts) or not ends}
        for i, part in enumerate(parts)
    ]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        if not ends:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return receive


def read(receive: Receive, timeout_s: float | None = None, **headers: bytes) -> bytes:
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return asyncio.run(
        body.read(receive, named, limit=LIMIT, setting="max_body", timeout_s=timeout_s)
    )


@pytest.mark.parametrize("parts", [(b"0123456789",), (b"01234", b"", b"56789"), (b"",)])
def test_a_body_within_the_limit_is_read_whole(parts: tuple[bytes, ...]) -> None:
    assert read(request(*parts)) == b"".join(parts)


@pytest.mark.parametrize("parts", [(b"0123456789x",), (b"01234", b"56789x")])
def test_a_body_beyond_the_limit_is_refused_with_the_settings_name(
    parts: tuple[bytes, ...],
) -> None:
    with pytest.raises(BodyTooLarge, match=r"^the request body is larger than 10 bytes \(max_body"):
        read(request(*parts))


def test_a_length_beyond_the_limit_is_refused_unread() -> None:
    with pytest.raises(BodyTooLarge):
        read(request(ends=False), content_length=b"11")


def test_reading_ends_as_soon_as_there_is_too_much() -> None:
    with pytest.raises(BodyTooLarge):
        read(request(b"01234", b"56789x", ends=False))


@pytest.mark.parametrize("more", [False, True])
def test_a_caller_that_leaves_is_told_apart(more: bool) -> None:
    receive = request(b"0", ends=False) if more else request()

    async def leaving() -> Any:
        return {"type": "http.disconnect"}

    async def first_then_gone() -> Any:
        first.append(True)
        return await (receive() if more and len(first) == 1 else leaving())

    first: list[bool] = []
    with pytest.raises(Disconnected):
        read(first_then_gone)


def test_a_body_that_does_not_arrive_is_a_timeout() -> None:
    with pytest.raises(RequestTimeout, match=r"within 0\.01 s"):
        read(request(b"0", ends=False), timeout_s=0.01)


def inflate(compressed: bytes) -> bytes:
    return body.inflate(compressed, limit=LIMIT, setting="max_inflated")


def test_gzip_is_inflated_up_to_the_limit() -> None:
    assert inflate(gzip.compress(b"0123456789")) == b"0123456789"
    with pytest.raises(BodyTooLarge, match="max_inflated"):
        inflate(gzip.compress(b"0123456789x"))


@pytest.mark.parametrize(
    ("compressed", "message"),
    [
        (gzip.compress(b"0")[:-1], "cut short"),
        (gzip.compress(b"0") + b"x", "bytes follow"),
        (gzip.compress(b"0") * 2, "bytes follow"),
        (b"0123", "broken"),
        (b"", "cut short"),
    ],
    ids=["cut", "bytes behind", "two members", "no gzip", "empty"],
)
def test_what_is_not_one_whole_gzip_member_is_refused(compressed: bytes, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        inflate(compressed)


def test_the_rest_of_a_body_is_discarded_up_to_its_end() -> None:
    receive = request(b"0" * 100, b"1" * 100)

    async def discard() -> Any:
        await body.discard(receive)
        return await receive()

    assert asyncio.run(discard())["type"] == "http.disconnect"


def test_a_caller_that_sends_for_ever_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_DISCARD_S", 0.01)
    asyncio.run(body.discard(request(b"0", ends=False)))
