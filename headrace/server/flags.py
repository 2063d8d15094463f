"""The command line in TensorFlow Serving's syntax: --name=value, or --name alone. The flags are the
fields of ServerConfig."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from headrace.server.config import AUTO, ServerConfig

_FIELDS = {f.name: f for f in dataclasses.fields(ServerConfig)}
_MODEL_FLAGS = frozenset({"path", "model_base_path", "model_config_file"})
_PORTS = frozenset({"port", "rest_api_port"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_LIMITS = {
    "port": (0, 65535),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
}
_CHOICES = {"access_log": ("text", "json", "off"), "mixed_precision": ("", "bfloat16")}
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class FlagError(ValueError):
    """A value that does not fit its flag."""


def parse(argv: Sequence[str], *, out: TextIO | None = None) -> ServerConfig:
    """The config. The first argument that is no flag is its path, unless a flag names the models.

    As TF Serving does, it reports unknown arguments with the usage and ignores them."""
    values: dict[str, Any] = {}
    unknown: list[str] = []
    for argument in argv:
        name, equals, text = argument.removeprefix("--").partition("=")
        field = _FIELDS.get(name) if argument.startswith("--") else None
        if field is not None and (equals or field.type == "bool"):
            values[name] = _value(name, str(field.type), text if equals else "true")
        else:
            unknown.append(argument)
    if not _MODEL_FLAGS & values.keys():
        path = _path(argv, unknown)
        if path is not None:
            values["path"] = path
            unknown.remove(path)
    if unknown:
        _report_unknown(unknown, out or sys.stdout)
    return ServerConfig(**values)


def _path(argv: Sequence[str], unknown: Sequence[str]) -> str | None:
    """The first argument that is not meant as a flag. A flag may lack its dashes (name=value), or
    have its value as the next argument (--name value)."""
    previous = ""
    for argument in argv:
        name, equals, _ = argument.partition("=")
        is_name_value = equals and name in _FIELDS
        is_flag = argument.startswith("-") or previous in unknown or is_name_value
        if argument and argument in unknown and not is_flag:
            return argument
        previous = argument
    return None


def without_effect(argv: Sequence[str]) -> list[Flag]:
    """TensorFlow Serving's flags among the arguments that have no effect here."""
    names = {argument.removeprefix("--").partition("=")[0] for argument in argv}
    return [flag for flag in table() if flag.name in names and not flag.honoured]


def usage() -> str:
    """In TensorFlow Serving's layout."""
    lines = [
        "usage: headrace serve [PATH]",
        "PATH: a folder of one model's versions, one SavedModel, or a folder of models",
        "Flags:",
    ]
    for flag in table():
        example = f"--{flag.name}={flag.default}"
        note = "" if flag.honoured else " (accepted, no effect here)"
        lines.append(f"\t{example:<33}\t{flag.type}\t{flag.help}{note}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Flag:
    """``default`` is written as on the command line."""

    name: str
    type: str
    default: str
    help: str
    honoured: bool
    ours: bool


def table() -> list[Flag]:
    """Every flag: TensorFlow Serving's in its order, then ours."""
    flags = []
    ours = False
    for field in _FIELDS.values():
        # The first of ours; all that follow are ours, too.
        ours = ours or field.name == "path"
        flag = Flag(
            field.name,
            _type(field),
            _text(field.default),
            field.metadata["help"],
            field.metadata["honoured"],
            ours,
        )
        flags.append(flag)
    return flags


def reference() -> str:
    """The table as docs/reference/serve-flags.md has it."""
    theirs = [flag for flag in table() if not flag.ours]
    ours = [flag for flag in table() if flag.ours]
    parts = [
        _REFERENCE_HEAD,
        _rows(theirs),
        "\n## Ours\n\nTensorFlow Serving has none of these.\n\n",
        _rows(ours),
    ]
    return "".join(parts)


_REFERENCE_HEAD = """\
# Flags of `headrace serve`

<!-- Made by python -m headrace.server.flags > docs/reference/serve-flags.md -->

`headrace serve PATH` serves what is at that path as it is: a folder of one model's versions; one
SavedModel, as version 1; or a folder of such models, each named by its own folder. Other flags go
with it.

As with TensorFlow Serving a flag is `--name=value`, and `--name` alone turns one on that is true or
false. Any other argument is named, with the usage, and passed over; a value that does not fit its
flag ends the start with exit code 255. A flag marked *taken* is TensorFlow Serving's, has no
meaning here, and says so once when it is given.

Files that flags name are read once, at the start, except `model_config_file`, which is read again
every `model_config_file_poll_wait_seconds`.

## TensorFlow Serving's

"""


def _rows(flags: Sequence[Flag]) -> str:
    lines = ["| flag | type | default | what it does |", "|---|---|---|---|"]
    for flag in flags:
        default = _FIELDS[flag.name].metadata["shown"] or f"`{flag.default}`"
        note = "" if flag.honoured else "*Taken:* "
        lines.append(f"| `{flag.name}` | {flag.type} | {default} | {note}{flag.help} |")
    return "\n".join(lines) + "\n"


def _type(field: dataclasses.Field[Any]) -> str:
    """TensorFlow Serving's name of the type."""
    name: str = field.metadata["type"]
    if name:
        return name
    return {"int": "int32", "str": "string"}.get(str(field.type), str(field.type))


def _value(name: str, python_type: str, text: str) -> Any:
    if name in _PORTS and text == "auto":
        return AUTO
    try:
        match python_type:
            case "bool":
                return _BOOLEANS[text.lower()]
            case "int":
                number = int(text) if _INTEGER.fullmatch(text) else None
                least, most = _LIMITS["port" if name in _PORTS else _type(_FIELDS[name])]
                if number is None or not least <= number <= most:
                    raise ValueError
                return number
            case "float":
                return float(text)
            case _:
                if name in _CHOICES and text not in _CHOICES[name]:
                    raise ValueError
                return text
    except (ValueError, KeyError):
        raise FlagError(f"--{name}={text}: expected {_expected(name, python_type)}") from None


def _expected(name: str, python_type: str) -> str:
    if name in _PORTS:
        return "a port, 0 to 65535, or auto"
    if name in _CHOICES:
        return " or ".join([choice for choice in _CHOICES[name] if choice])
    return {"bool": "true or false", "int": "a whole number", "float": "a number"}[python_type]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)


def _report_unknown(unknown: Sequence[str], out: TextIO) -> None:
    for argument in unknown:
        print(f"unknown argument: {argument}", file=out)
    print(usage(), file=out, flush=True)


if __name__ == "__main__":
    print(reference(), end="")
