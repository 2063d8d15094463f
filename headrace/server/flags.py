"""The command line in TensorFlow Serving's syntax: --name=value, or bare --name. ServerConfig is
the table."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from headrace.server.config import AUTO, ServerConfig

_FIELDS = {f.name: f for f in dataclasses.fields(ServerConfig)}
_MODELS = frozenset({"path", "model_base_path", "model_config_file"})
_PORTS = frozenset({"port", "rest_api_port"})
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
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
    """The flags as a config, the first argument that is none as its path, where no flag names
    models.

    As with TF Serving an unknown argument is named, with the usage, and passed over."""
    values: dict[str, Any] = {}
    unknown: list[str] = []
    for argument in argv:
        name, equals, text = argument.removeprefix("--").partition("=")
        known = _FIELDS.get(name) if argument.startswith("--") else None
        if known is not None and (equals or known.type == "bool"):
            values[name] = _value(name, str(known.type), text if equals else "true")
        else:
            unknown.append(argument)
    if not _MODELS & values.keys() and (path := _path(argv, unknown)):
        values["path"] = path
        unknown.remove(path)
    if unknown:
        _complain(unknown, out or sys.stdout)
    return ServerConfig(**values)


def _path(argv: Sequence[str], unknown: Sequence[str]) -> str:
    """The first that is not meant as a flag: neither name=value, its dashes missing, nor the value
    in --name value."""
    before = ""
    for argument in argv:
        name, equals, _ = argument.partition("=")
        is_flag = argument.startswith("-") or before in unknown or (equals and name in _FIELDS)
        if argument and argument in unknown and not is_flag:
            return argument
        before = argument
    return ""


def without_effect(argv: Sequence[str]) -> list[Flag]:
    """The flags given that are TensorFlow Serving's and do nothing here."""
    given = {argument.removeprefix("--").partition("=")[0] for argument in argv}
    return [flag for flag in table() if flag.name in given and not flag.honoured]


def usage() -> str:
    """Laid out as TensorFlow Serving does."""
    lines = [
        "usage: headrace serve [PATH]",
        "PATH: a folder of one model's versions, one SavedModel, or a folder of models",
        "Flags:",
    ]
    for known in table():
        note = "" if known.honoured else " (accepted, no effect here)"
        lines.append(f"\t{f'--{known.name}={known.default}':<33}\t{known.kind}\t{known.help}{note}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Flag:
    """A line of the table; ``default`` is as one writes it."""

    name: str
    kind: str
    default: str
    help: str
    honoured: bool
    ours: bool


def table() -> list[Flag]:
    """Every flag: TensorFlow Serving's in its order, then ours."""
    names = list(_FIELDS)
    first_of_ours = names.index("path")
    return [
        Flag(
            f.name,
            _kind(f),
            _text(f.default),
            f.metadata["help"],
            f.metadata["honoured"],
            at >= first_of_ours,
        )
        for at, f in enumerate(_FIELDS.values())
    ]


def reference() -> str:
    """The table as docs/reference/serve-flags.md has it."""
    theirs, ours = ([f for f in table() if f.ours is which] for which in (False, True))
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
        lines.append(f"| `{flag.name}` | {flag.kind} | {default} | {note}{flag.help} |")
    return "\n".join(lines) + "\n"


def _kind(field: dataclasses.Field[Any]) -> str:
    named: str = field.metadata["kind"]
    return named or {"int": "int32", "str": "string"}.get(str(field.type), str(field.type))


def _value(name: str, kind: str, text: str) -> Any:
    if name in _PORTS and text == "auto":
        return AUTO
    try:
        match kind:
            case "bool":
                return _BOOLEANS[text.lower()]
            case "int":
                number = int(text) if _WHOLE.fullmatch(text) else None
                least, most = _LIMITS["port" if name in _PORTS else _kind(_FIELDS[name])]
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
        raise FlagError(f"--{name}={text}: expected {_wanted(name, kind)}") from None


def _wanted(name: str, kind: str) -> str:
    if name in _PORTS:
        return "a port, 0 to 65535, or auto"
    if name in _CHOICES:
        return " or ".join(filter(None, _CHOICES[name]))
    return {"bool": "true or false", "int": "a whole number", "float": "a number"}[kind]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _complain(unknown: Sequence[str], out: TextIO) -> None:
    for argument in unknown:
        print(f"unknown argument: {argument}", file=out)
    print(usage(), file=out, flush=True)


if __name__ == "__main__":
    print(reference(), end="")
