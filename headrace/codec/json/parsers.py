"""simdjson parsers that are kept for the next body. One cannot parse again while a document of it
is alive."""

from __future__ import annotations

from simdjson import Parser

# A parser that grew for more than this is not kept.
_KEPT_BODY_BYTES = 1 << 20
_KEPT_PARSERS = 16

_free: list[Parser] = []


def borrow() -> Parser:
    try:
        return _free.pop()
    except IndexError:
        return Parser()


def give_back(parser: Parser, body_bytes: int) -> None:
    """Only when nothing of what it parsed is alive any more."""
    if body_bytes <= _KEPT_BODY_BYTES and len(_free) < _KEPT_PARSERS:
        _free.append(parser)
