"""Where each field of a text-format message stands. protobuf's own parser says this only of what it
refuses.

For text that has been parsed already: nothing here judges the text, it only follows its brackets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

TextPath = tuple[str | int, ...]

_TOKEN = re.compile(
    r"""
    (?P<blank> \s+ | \#[^\n]* )
    | (?P<string> "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' )
    | (?P<word> [\w.+-]+ )
    | (?P<mark> . )
    """,
    re.DOTALL | re.VERBOSE,
)
_CLOSERS = {"{": "}", "<": ">", "[": "]"}
_QUOTES = ("'", '"')


@dataclass(frozen=True, slots=True)
class TextPosition:
    """Line and column, from 1, of a field's name (or of a list's element), and its value's text if
    it is a scalar.

    ``start`` and ``end`` bound it in the text, the value with its brackets included.
    """

    line: int
    column: int
    value: str = ""
    start: int = 0
    end: int = 0


def find(text: str) -> Mapping[TextPath, TextPosition]:
    """Places by path: ``("model_config_list", 0, "config", 1, "name", 0)`` is the name of the
    second model."""
    walk = _Walk(text)
    walk.fields((), closer="")
    return walk.positions


@dataclass(slots=True)
class _Walk:
    text: str
    positions: dict[TextPath, TextPosition] = field(default_factory=dict)
    tokens: list[tuple[str, int]] = field(init=False)
    at: int = 0

    def __post_init__(self) -> None:
        self.tokens = []
        for match in _TOKEN.finditer(self.text):
            if match.lastgroup != "blank":
                self.tokens.append((match.group(), match.start()))

    def fields(self, path: TextPath, closer: str) -> None:
        """Fields up to the closing bracket; each name counts its own repetitions."""
        seen: dict[str, int] = {}
        while self.at < len(self.tokens) and self._peek() != closer:
            _, start = self.tokens[self.at]
            name = self._name()
            if self._peek() == ":":
                self.at += 1
            if self._peek() == "[":
                self._list((*path, name), seen)
            else:
                count = self._count(seen, name)
                self._value((*path, name, count), start)
            if self._peek() in (",", ";"):
                self.at += 1
        self.at += 1

    def _list(self, path: TextPath, seen: dict[str, int]) -> None:
        self.at += 1
        name = str(path[-1])
        while self.at < len(self.tokens) and self._peek() != "]":
            _, start = self.tokens[self.at]
            count = self._count(seen, name)
            self._value((*path, count), start)
            if self._peek() == ",":
                self.at += 1
        self.at += 1

    def _value(self, path: TextPath, start: int) -> None:
        line = self.text.count("\n", 0, start) + 1
        column = start - self.text.rfind("\n", 0, start)
        opener = self._peek()
        if opener in ("{", "<"):
            # Before what is in it.
            self.positions[path] = TextPosition(line, column)
            self.at += 1
            self.fields(path, _CLOSERS[opener])
            self.positions[path] = TextPosition(
                line,
                column,
                start=start,
                end=self._end(),
            )
            return

        parts = [self._next()]
        if parts[0] == "-":
            parts.append(self._next())
        if parts[0].startswith(_QUOTES):
            # Adjacent strings are one.
            while self._peek().startswith(_QUOTES):
                parts.append(self._next())
        self.positions[path] = TextPosition(
            line,
            column,
            value="".join(parts),
            start=start,
            end=self._end(),
        )

    def _name(self) -> str:
        """A field's name, or the bracketed type of an expanded Any."""
        name = self._next()
        if name == "[":
            while not name.endswith("]"):
                if self.at >= len(self.tokens):
                    break
                name += self._next()
        return name

    def _end(self) -> int:
        """Where the last token that was read ends."""
        count = min(self.at, len(self.tokens))
        token, start = self.tokens[count - 1]
        return start + len(token)

    @staticmethod
    def _count(seen: dict[str, int], name: str) -> int:
        seen[name] = seen.get(name, -1) + 1
        return seen[name]

    def _peek(self) -> str:
        if self.at >= len(self.tokens):
            return ""
        token, _ = self.tokens[self.at]
        return token

    def _next(self) -> str:
        token = self._peek()
        self.at += 1
        return token
