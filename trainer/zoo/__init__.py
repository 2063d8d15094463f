"""The models: one file each, found by listing this folder. A file's ENTRY says what it is; its name is the file's."""

from __future__ import annotations

import importlib
import pkgutil

from trainer.entry import Entry
from trainer.errors import Usage


def names() -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def find(name: str) -> Entry:
    if name not in names():
        raise Usage(f"there is no model {name!r} in the zoo; there are {', '.join(names())}")
    entry: Entry = importlib.import_module(f"{__name__}.{name}").ENTRY
    return entry
