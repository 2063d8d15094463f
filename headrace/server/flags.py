"""The command line in TensorFlow Serving's syntax: --name=value, or bare --name. ServerConfig is the table."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from headrace.server.config import AUTO, ServerConfig

_FIELDS = {f.name: f for f in dataclasses.fields(ServerConfig)}
_PORTS = frozenset({"port", "rest_api_port"})
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class FlagError(ValueError):
    """A value that does not fit its flag."""


def parse(argv: Sequence[str], *, out: TextIO | None = None) -> ServerConfig:
    """The flags as a config. As with TF Serving an unknown argument is named, with the usage, and passed over."""
    values: dict[str, Any] = {}
    unknown = []
    for argument in argv:
        name, equals, text = argument.removeprefix("--").partition("=")
        known = _FIELDS.get(name) if argument.startswith("--") else None
        if known is None or (not equals and known.type != "bool"):
            unknown.append(argument)
        else:
            values[name] = _value(name, str(known.type), text if equals else "true")
    if unknown:
        _complain(unknown, out or sys.stdout)
    return ServerConfig(**values)


def without_effect(argv: Sequence[str]) -> list[str]:
    """The flags given that are TensorFlow Serving's and do nothing here."""
    names = (argument.removeprefix("--").partition("=")[0] for argument in argv)
    return [name for name in names if name in _FIELDS and not _FIELDS[name].metadata["honoured"]]


def usage() -> str:
    lines = ["usage: headrace serve --name=value ...", "Flags:"]
    for known in _FIELDS.values():
        note = "" if known.metadata["honoured"] else " (accepted, no effect here)"
        lines.append(f"\t--{known.name}={_text(known.default)}\n\t\t{known.type}\t{known.metadata['help']}{note}")
    return "\n".join(lines) + "\n"


def _value(name: str, kind: str, text: str) -> Any:
    if name in _PORTS and text == "auto":
        return AUTO
    try:
        match kind:
            case "bool":
                return _BOOLEANS[text.lower()]
            case "int":
                number = int(text)
                if name in _PORTS and not 0 <= number <= 65535:
                    raise ValueError
                return number
            case "float":
                return float(text)
            case _:
                return text
    except (ValueError, KeyError):
        raise FlagError(f"--{name}={text}: expected {_wanted(name, kind)}") from None


def _wanted(name: str, kind: str) -> str:
    if name in _PORTS:
        return "a port, 0 to 65535, or auto"
    return {"bool": "true or false", "int": "a whole number", "float": "a number"}[kind]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _complain(unknown: Sequence[str], out: TextIO) -> None:
    for argument in unknown:
        print(f"unknown argument: {argument}", file=out)
    print(usage(), file=out, flush=True)
