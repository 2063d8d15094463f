"""The models: one file each, found by listing this folder. A file's ENTRY says what it is."""

from __future__ import annotations

import importlib
import pkgutil
import traceback
from collections.abc import Iterable

from trainer.entry import Entry
from trainer.errors import Broken, Usage


def names() -> tuple[str, ...]:
    modules = pkgutil.iter_modules(__path__)
    return tuple(sorted(module.name for module in modules))


def check(requested: Iterable[str]) -> None:
    """Raises Usage for a name that is not in the zoo, without importing any file."""
    models = names()
    for name in requested:
        if name not in models:
            listed = ", ".join(models)
            raise Usage(f"there is no model {name!r} in the zoo; there are {listed}")


def find(name: str) -> Entry:
    """Raises Broken when the file cannot be imported or has no ENTRY; the others still work."""
    check([name])
    file = f"trainer/zoo/{name}.py"
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except (Exception, SystemExit) as error:
        place = file + _line_suffix(error, name)
        reason = f"{type(error).__name__}: {error}"
        raise Broken(f"{place} cannot be imported: {reason}") from error
    entry = getattr(module, "ENTRY", None)
    if not isinstance(entry, Entry):
        raise Broken(f"{file} has no ENTRY, or one that is not a trainer.entry.Entry")
    if entry.name != name:
        raise Broken(f"{file}: its ENTRY is named {entry.name!r}, expected {name!r}")
    return entry


def _line_suffix(error: BaseException, name: str) -> str:
    """The line of the file, as ":7"; "" for a SyntaxError, which says it itself."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.name == "<module>" and frame.filename.endswith(f"/{name}.py"):
            return f":{frame.lineno}"
    return ""
