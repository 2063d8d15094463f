"""The models: one file each, found by listing this folder. A file's ENTRY says what it is; its name
is the file's."""

from __future__ import annotations

import importlib
import pkgutil
import traceback
from collections.abc import Iterable

from trainer.entry import Entry
from trainer.errors import Broken, Usage


def names() -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def check(wanted: Iterable[str]) -> None:
    """Raises Usage for a name that is not in the zoo; no file is read for it."""
    for name in wanted:
        if name not in names():
            raise Usage(f"there is no model {name!r} in the zoo; there are {', '.join(names())}")


def find(name: str) -> Entry:
    """Raises Broken where the file cannot be imported, or says nothing: the others are as good as
    before."""
    check([name])
    file = f"trainer/zoo/{name}.py"
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except (Exception, SystemExit) as error:
        raise Broken(
            f"{file}{_line(error, name)} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    entry = getattr(module, "ENTRY", None)
    if not isinstance(entry, Entry):
        raise Broken(f"{file} has no ENTRY, or one that is no trainer.entry.Entry")
    if entry.name != name:
        raise Broken(f"{file}: its ENTRY is named {entry.name!r}, expected {name!r}")
    return entry


def _line(error: BaseException, name: str) -> str:
    """Where in the file it was; a SyntaxError says so itself."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"
    ]
    lines = [frame.lineno for frame in frames if frame.filename.endswith(f"/{name}.py")]
    return f":{lines[-1]}" if lines else ""
