"""Settings of a part: a dataclass, whose fields HEADRACE_ variables set.

Each field has a default, a unit, which its name says, one sentence, and what its value must be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar

from headrace import variables
from headrace.protocol.errors import InvalidArgument

T = TypeVar("T")

# By the end of a field's name.
_UNITS = {
    "_s": "seconds",
    "_bytes": "bytes",
    "_port": "port",
    "_connections": "connections",
    "workers": "processes",
}
_BOOLEANS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True, slots=True)
class Check:
    """``expected`` ends the sentence "NAME=VALUE: expected ..."."""

    fits: Callable[[Any], bool]
    expected: str


def setting(
    default: Any, help: str, check: Check | None = None, *, words: Mapping[str, str] | None = None
) -> Any:
    """A field. ``words`` stand for values, as auto for 0; of a tuple, each element is checked."""
    return field(default=default, metadata={"help": help, "check": check, "words": words or {}})


def variable(field_name: str) -> str:
    """The environment variable of a field."""
    return variables.PREFIX + field_name.upper()


def from_environment(cls: type[T], environ: Mapping[str, str]) -> T:
    """InvalidArgument for a name that no part reads, or a value that does not fit."""
    if error := variables.unknown(environ):
        raise InvalidArgument(error)
    by_variable = {variable(f.name): f for f in fields(cls)}  # type: ignore[arg-type]
    values = {}
    for name, text in variables.ours(environ).items():
        if name in by_variable:
            field_ = by_variable[name]
            values[field_.name] = _parse(name, field_, text)
    return cls(**values)


def check(settings: Any) -> None:
    """InvalidArgument over the first value that does not fit; for __post_init__."""
    for field_ in fields(settings):
        check: Check | None = field_.metadata["check"]
        if check is None:
            continue
        value = getattr(settings, field_.name)
        elements = value if isinstance(value, tuple) else (value,)
        for element in elements:
            require(check.fits(element), field_.name, element, check.expected)


def require(fits: bool, field_name: str, value: object, expected: str) -> None:
    if not fits:
        raise InvalidArgument(f"{variable(field_name)}={value}: expected {expected}")


@dataclass(frozen=True, slots=True)
class Row:
    """A setting as a person writes it."""

    variable: str
    unit: str
    default: str
    help: str


def table(cls: type) -> list[Row]:
    """Every setting, in the class's order."""
    rows = []
    for field_ in fields(cls):
        help = field_.metadata["help"]
        rows.append(Row(variable(field_.name), _unit(field_), _written(field_.default), help))
    return rows


def _parse(name: str, field_: Field[Any], text: str) -> Any:
    text = field_.metadata["words"].get(text.strip().lower(), text)
    kind = str(field_.type)
    if kind == "int":
        try:
            return int(text)
        except ValueError:
            raise _misfit(name, text, "a whole number") from None
    if kind == "float":
        try:
            number = float(text)
        except ValueError:
            raise _misfit(name, text, "a number") from None
        if not math.isfinite(number):
            raise _misfit(name, text, "a number")
        return number
    if kind == "bool":
        try:
            return _BOOLEANS[text.strip().lower()]
        except KeyError:
            raise _misfit(name, text, "1 or 0") from None
    if kind.startswith("tuple"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _misfit(name: str, text: str, expected: str) -> InvalidArgument:
    return InvalidArgument(f"{name}={text!r}: expected {expected}")


def _unit(field_: Field[Any]) -> str:
    for end, unit in _UNITS.items():
        if field_.name.endswith(end):
            return unit
    default = field_.default
    if isinstance(default, tuple):
        return "list"
    if isinstance(default, bool):
        return "1 or 0"
    return "number" if isinstance(default, int) else "text"


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        value = ",".join(value)
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value) if value != "" else '""'
