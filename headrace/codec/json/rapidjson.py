"""JSON as RapidJSON 1.1 reads it with TensorFlow Serving's settings.

Beyond strict JSON: NaN and Infinity forms, bytes after the value ignored, a byte order mark, no
look at the encoding of strings, every member of an object kept (the first of a name counts), any
depth. Pure Python: the exact reader for what a strict parser refuses, linear in the body. Numbers
are rounded correctly where RapidJSON may be a few ulp off.

Arrays are lists, objects JsonObject, integers of 64 bits int and every other number float; strings
are str, with bytes that are not UTF-8 as surrogate escapes.
"""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass
from typing import Any

ANY_DEPTH = sys.maxsize
# Some seconds and 250 MB at worst; numbers in the right shape are never read here.
MOST_HOLDERS = 1 << 21
INT64_MIN = -(1 << 63)
UINT64_MAX = (1 << 64) - 1


class JsonObject:
    """The members in the order they came, duplicates included; looked up by name, the first
    counts."""

    __slots__ = ("_first", "members")

    def __init__(self, members: list[tuple[str, Any]]) -> None:
        self.members = members
        self._first: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.members)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name()

    def __getitem__(self, name: str) -> Any:
        return self._by_name()[name]

    def names(self) -> list[str]:
        return [name for name, _ in self.members]

    def _by_name(self) -> dict[str, Any]:
        if self._first is None:
            self._first = dict(reversed(self.members))
        return self._first


@dataclass(frozen=True, slots=True)
class Document:
    """``end`` is the offset after the value."""

    value: Any
    end: int
    has_byte_order_mark: bool
    has_trailing_bytes: bool


class JsonSyntaxError(ValueError):
    """RapidJSON's words and the offset it reports."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(f"{text} at offset: {offset}")
        self.text = text
        self.offset = offset


def read(body: bytes, *, max_depth: int = ANY_DEPTH) -> Document:
    start = 0
    # Each one skipped for itself, as RapidJSON does.
    for byte in b"\xef\xbb\xbf":
        if body[start : start + 1] == bytes((byte,)):
            start += 1
    if count_holders(body) + body.count(b"\\") > MOST_HOLDERS:
        raise JsonSyntaxError(_TOO_MANY, start)
    value, end = _Reader(body, max_depth).read(start)
    return Document(
        value,
        end,
        has_byte_order_mark=start > 0,
        has_trailing_bytes=_skip(body, end) < len(body),
    )


def count_holders(body: bytes) -> int:
    """Lists and objects, brackets in strings among them: what reading costs far more for than for
    other bytes."""
    return body.count(b"[") + body.count(b"{")


_TOO_MANY = f"More than {MOST_HOLDERS} lists, objects and escapes."
_EMPTY = "The document is empty."
_VALUE = "Invalid value."
_NAME = "Missing a name for object member."
_COLON = "Missing a colon after a name of object member."
_HEX = "Incorrect hex digit after \\u escape in string."
_SURROGATE = "The surrogate pair in string is invalid."
_ESCAPE = "Invalid escape character in string."
_QUOTE = "Missing a closing quotation mark in string."
_TOO_BIG = "Number too big to be stored in double."
_FRACTION = "Miss fraction part in number."
_EXPONENT = "Miss exponent in number."

# A quantifier is possessive where it repeats one character, so that no input makes a match go back
# over what was read; never behind a group, which CPython before 3.11.5 misreads.
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_BLANKS = re.compile(rb"[ \t\r\n]*+")
# What may be numbers and flat lists of them, a comma after each: the standard library reads it
# alike and fast, or refuses. The bound holds the memory of the match.
_RUN_TEXT = rb"(?:C*,|\[C*+\]~,~){1,4096}"
_RUN_TEXT = _RUN_TEXT.replace(b"C", rb"[-+0-9.eE, \t\r\n]")
_RUN_TEXT = _RUN_TEXT.replace(b"~", rb"[ \t\r\n]*+")
_RUN = re.compile(_RUN_TEXT)
# May be beyond 64 bits, or beyond a double.
_DOUBTFUL = re.compile(rb"(?<![.0-9])[0-9]{20}|[eE]\+?[0-9]{3}")
# RapidJSON backs up from NaN after N or Na.
_SPECIAL = re.compile(rb"-?(?:(NaN)|(?:Na?)?Inf(?:inity)?)")
_STRING = re.compile(rb'"([^"\\\x00-\x1f]*+)"')
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*+')
_HEX4 = re.compile(rb"[0-9A-Fa-f]{4}")
_LITERALS = {
    ord("t"): (b"true", True),
    ord("f"): (b"false", False),
    ord("n"): (b"null", None),
}
_ESCAPES = {
    ord('"'): b'"',
    ord("\\"): b"\\",
    ord("/"): b"/",
    ord("b"): b"\b",
    ord("f"): b"\f",
    ord("n"): b"\n",
    ord("r"): b"\r",
    ord("t"): b"\t",
}
_DIGITS = frozenset(b"-0123456789")
_RUN_STARTS = _DIGITS | {ord("[")}
_LEFT = ord("[")
_RIGHT = ord("]")
_OPEN = ord("{")
_CLOSE = ord("}")
_COMMA = ord(",")
_POINT = ord(".")
_DOUBLE_QUOTE = ord('"')
_BACKSLASH = ord("\\")
_COLON_BYTE = ord(":")
# What is missing, by the bracket that would end the list or object.
_AFTER = {
    _RIGHT: "Missing a comma or ']' after an array element.",
    _CLOSE: "Missing a comma or '}' after an object member.",
}
# Digits and sign of the longest that may fit 64 bits.
_LONG_INTEGER = 20


class _Reader:
    def __init__(self, body: bytes, max_depth: int) -> None:
        self._max_depth = max_depth
        # To RapidJSON a zero byte is the end, wherever it stands.
        self._data = body + b"\0"

    def read(self, pos: int) -> tuple[Any, int]:
        data = self._data
        blanks = _BLANKS.match
        # What is open around the holder.
        stack: list[tuple[list[Any] | None, str | None, int]] = []
        # The open array, or the members of the open object.
        holder: list[Any] | None = None
        # The member a value is awaited for; None in an array.
        name: str | None = None
        # The bracket that ends the holder.
        closer = _RIGHT
        # Just opened, so it may close at once.
        fresh = False
        # Up to here, number by number.
        careful_until = 0
        while True:
            # A value, the name before it, or the end of what was just opened.
            if data[pos] <= 32:
                pos = blanks(data, pos).end()  # type: ignore[union-attr]
            byte = data[pos]
            value: Any
            if holder is not None and fresh and byte == closer:
                value = _closed(holder, name)
                holder, name, closer = stack.pop()
                pos += 1
            else:
                if name is not None:
                    name, pos = self._name(pos)
                    byte = data[pos]
                if (
                    holder is not None
                    and name is None
                    and byte in _RUN_STARTS
                    and pos >= careful_until
                ):
                    run = _RUN.match(data, pos)
                    if run is not None:
                        values = _loaded(data[pos : run.end()])
                        if values is not None:
                            holder += values
                            pos = run.end()
                            fresh = False
                            continue
                        careful_until = run.end()
                if byte == _LEFT or byte == _OPEN:
                    stack.append((holder, name, closer))
                    if len(stack) > self._max_depth:
                        raise JsonSyntaxError(f"Nested deeper than {self._max_depth}.", pos)
                    holder = []
                    if byte == _LEFT:
                        name = None
                        closer = _RIGHT
                    else:
                        name = ""
                        closer = _CLOSE
                    fresh = True
                    pos += 1
                    continue
                if byte == _DOUBLE_QUOTE:
                    value, pos = self._string(pos)
                else:
                    value, pos = self._scalar(pos, is_root=holder is None)
            # What follows a value.
            while True:
                if not stack:
                    return value, pos
                assert holder is not None
                if name is None:
                    holder.append(value)
                else:
                    holder.append((name, value))
                if data[pos] <= 32:
                    pos = blanks(data, pos).end()  # type: ignore[union-attr]
                byte = data[pos]
                if byte == _COMMA:
                    pos += 1
                    fresh = False
                    break
                if byte != closer:
                    raise JsonSyntaxError(_AFTER[closer], pos)
                value = _closed(holder, name)
                holder, name, closer = stack.pop()
                pos += 1

    def _name(self, pos: int) -> tuple[str, int]:
        """A member's name and the offset of its value."""
        data = self._data
        if data[pos] != _DOUBLE_QUOTE:
            raise JsonSyntaxError(_NAME, pos)
        name, pos = self._string(pos)
        pos = _skip(data, pos)
        if data[pos] != _COLON_BYTE:
            raise JsonSyntaxError(_COLON, pos)
        return name, _skip(data, pos + 1)

    def _scalar(self, pos: int, *, is_root: bool) -> tuple[Any, int]:
        data = self._data
        byte = data[pos]
        if byte in _DIGITS:
            match = _NUMBER.match(data, pos)
            if match is not None:
                end = match.end()
                return self._number(pos, end), end
        elif byte in _LITERALS:
            word, value = _LITERALS[byte]
            if data.startswith(word, pos):
                return value, pos + len(word)
            wrong = pos + _common(data, pos, word)
            raise JsonSyntaxError(_VALUE, wrong)
        elif byte in b"],:}\0":
            if is_root:
                raise JsonSyntaxError(_EMPTY, pos)
            raise JsonSyntaxError(_VALUE, pos)

        special = _SPECIAL.match(data, pos)
        if special is None:
            raise JsonSyntaxError(_VALUE, self._special_stop(pos))
        end = special.end()
        if special.group().endswith(b"Inf") and data[end] == ord("i"):
            wrong = end + _common(data, end, b"inity")
            raise JsonSyntaxError(_VALUE, wrong)
        if special[1]:
            return math.nan, end
        if byte == ord("-"):
            return -math.inf, end
        return math.inf, end

    def _special_stop(self, pos: int) -> int:
        data = self._data
        pos += data[pos] == ord("-")
        if data[pos] not in b"NI":
            return pos
        pos += _common(data, pos, b"NaN")
        return pos + _common(data, pos, b"Inf")

    def _number(self, start: int, end: int) -> int | float:
        """The number in data[start:end], after what may be wrong right behind it."""
        data = self._data
        text = data[start:end]
        is_integer = not (b"." in text or b"e" in text or b"E" in text)
        value: int | float
        if is_integer:
            value = _integer(text)
        else:
            value = float(text)
        if value in (math.inf, -math.inf):
            raise JsonSyntaxError(_TOO_BIG, start)

        after = data[end]
        if after == _POINT and is_integer:
            raise JsonSyntaxError(_FRACTION, end + 1)
        if after in b"eE" and not (b"e" in text or b"E" in text):
            wrong = end + 1
            if data[wrong] in b"+-":
                wrong += 1
            raise JsonSyntaxError(_EXPONENT, wrong)
        return value

    def _string(self, pos: int) -> tuple[str, int]:
        match = _STRING.match(self._data, pos)
        if match is not None:
            return match[1].decode("utf-8", "surrogateescape"), match.end()

        data = self._data
        text = bytearray()
        pos += 1
        while True:
            end = _PLAIN.match(data, pos).end()  # type: ignore[union-attr]
            text += data[pos:end]
            byte = data[end]
            if byte == _DOUBLE_QUOTE:
                return text.decode("utf-8", "surrogateescape"), end + 1
            if byte == 0:
                raise JsonSyntaxError(_QUOTE, end)
            if byte != _BACKSLASH:
                raise JsonSyntaxError(_ESCAPE, end)
            piece, pos = self._escape(end)
            text += piece

    def _escape(self, start: int) -> tuple[bytes, int]:
        data = self._data
        kind = data[start + 1]
        if kind in _ESCAPES:
            return _ESCAPES[kind], start + 2
        if kind != ord("u"):
            raise JsonSyntaxError(_ESCAPE, start)
        code = self._hex4(start + 2, start)
        end = start + 6
        if 0xD800 <= code <= 0xDBFF:
            low = 0
            if data.startswith(b"\\u", end):
                low = self._hex4(end + 2, start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise JsonSyntaxError(_SURROGATE, start)
            high_bits = (code - 0xD800) << 10
            code = 0x10000 + (high_bits | (low - 0xDC00))
            end += 6
        # A low surrogate alone is let through, as three bytes that are not UTF-8.
        return chr(code).encode("utf-8", "surrogatepass"), end

    def _hex4(self, pos: int, escape: int) -> int:
        match = _HEX4.match(self._data, pos)
        if match is None:
            raise JsonSyntaxError(_HEX, escape)
        return int(match.group(), 16)


def _loaded(run: bytes) -> list[Any] | None:
    """The values of what _RUN matched, or None where RapidJSON may read it otherwise."""
    if _DOUBTFUL.search(run) is not None:
        return None
    try:
        values: list[Any] = json.loads(b"[%b0]" % run)
    except ValueError:
        return None
    # The 0 behind the last comma.
    values.pop()
    return values


def _closed(holder: list[Any], name: str | None) -> Any:
    if name is None:
        return holder
    return JsonObject(holder)


def _skip(data: bytes, pos: int) -> int:
    match = _BLANKS.match(data, pos)
    if match is None:
        return pos
    return match.end()


def _common(data: bytes, pos: int, word: bytes) -> int:
    """How many bytes at pos are those of the word."""
    for i, byte in enumerate(word):
        if data[pos + i] != byte:
            return i
    return len(word)


def _integer(text: bytes) -> int | float:
    """An int where 64 bits hold it, else a float, infinite if that is too small too."""
    if len(text) <= _LONG_INTEGER:
        value = int(text)
        if INT64_MIN <= value <= UINT64_MAX:
            return value
    return float(text)
