"""JSON as RapidJSON prints it: the short dump that TensorFlow Serving's error texts quote, and
strings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headrace.codec.json import grisu
from headrace.codec.json.rapidjson import JsonObject

# What an error text quotes of a value.
DUMP_BYTES = 256


def type_name(value: Any) -> str:
    """RapidJSON's word for the kind of a value, True and False apart."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        return "Number"
    if isinstance(value, str):
        return "String"
    if isinstance(value, list):
        return "Array"
    return "Object"


def dump(value: Any, limit: int = DUMP_BYTES) -> str:
    """The value as RapidJSON's pretty writer prints it, arrays on one line, no more than ``limit``
    bytes."""
    out: list[bytes] = []
    size = 0
    for piece in _pieces(value, limit):
        out.append(piece)
        size += len(piece)
        if size >= limit:
            break
    shown = b"".join(out)[:limit]
    return shown.decode("utf-8", "surrogateescape")


def _pieces(value: Any, limit: int) -> Iterator[bytes]:
    """The print bit by bit, without recursion, so that neither depth nor length costs more than
    what is shown."""
    stack: list[_Frame] = []
    while True:
        if isinstance(value, list):
            yield b"["
            frame = _Frame(iter(value), closer=b"]", comma=b", ")
            stack.append(frame)
        elif isinstance(value, JsonObject):
            yield b"{"
            members = iter(value.members)
            frame = _Frame(members, closer=b"}", comma=b",", is_object=True)
            stack.append(frame)
        else:
            yield _scalar_text(value, limit)

        # The brackets that close after this value.
        while stack:
            frame = stack[-1]
            item: Any = next(frame.items, _END)
            if item is not _END:
                break
            stack.pop()
            if frame.is_object and not frame.is_first:
                yield _indent(len(stack))
            yield frame.closer
        else:
            return

        if not frame.is_first:
            yield frame.comma
        frame.is_first = False
        value = item
        if frame.is_object:
            name, value = item
            yield _indent(len(stack)) + _string_text(name, limit) + b": "


@dataclass(slots=True)
class _Frame:
    """A list or an object that is open."""

    items: Iterator[Any]
    closer: bytes
    comma: bytes
    is_object: bool = False
    is_first: bool = True


_END = object()
_ESCAPED = re.compile(rb'["\\\x00-\x1f]')
_SHORT_ESCAPES = {
    ord('"'): b'\\"',
    ord("\\"): b"\\\\",
    ord("\b"): b"\\b",
    ord("\f"): b"\\f",
    ord("\n"): b"\\n",
    ord("\r"): b"\\r",
    ord("\t"): b"\\t",
}
_ESCAPE_OF = [_SHORT_ESCAPES.get(byte, b"\\u%04X" % byte) for byte in range(256)]


def quoted(text: bytes) -> bytes:
    """A JSON string as RapidJSON writes it: only what must be is escaped, and the encoding is not
    looked at."""
    escaped = _ESCAPED.sub(lambda match: _ESCAPE_OF[match.group()[0]], text)
    return b'"' + escaped + b'"'


def _indent(depth: int) -> bytes:
    return b"\n" + b"    " * depth


def _string_text(text: str, limit: int) -> bytes:
    shown = text[:limit]
    return quoted(shown.encode("utf-8", "surrogateescape"))


def _scalar_text(value: Any, limit: int) -> bytes:
    if value is None:
        return b"null"
    if isinstance(value, bool):
        if value:
            return b"true"
        return b"false"
    if isinstance(value, str):
        return _string_text(value, limit)
    if isinstance(value, int):
        return str(value).encode()
    return _double_text(value).encode()


def _double_text(value: float) -> str:
    """Laid out as RapidJSON does: plain from 1e-6 to 1e21, exponents without +."""
    if math.isnan(value):
        return "NaN"
    sign = ""
    if math.copysign(1.0, value) < 0:
        sign = "-"
    if math.isinf(value):
        return sign + "Infinity"
    if value == 0:
        return sign + "0.0"
    digits, power = grisu.digits(abs(value))
    # Where the decimal point stands, counted from the first digit.
    point = len(digits) + power
    if power >= 0 and point <= 21:
        whole = digits.ljust(point, "0")
        return f"{sign}{whole}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        zeros = "0" * -point
        return f"{sign}0.{zeros}{digits}"
    fraction = ""
    if len(digits) > 1:
        fraction = f".{digits[1:]}"
    return f"{sign}{digits[0]}{fraction}e{point - 1}"
