"""What is on disk for a model: its complete versions, or what stands in the way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.wire import store
from headrace.wire.config import ModelConfig
from headrace.wire.errors import HeadraceError


@dataclass(frozen=True, slots=True)
class Found:
    """``paths`` is None when the folder cannot be read: then nobody knows, and what is loaded should stay."""

    paths: Mapping[int, Path] | None = field(default_factory=dict)
    trouble: str = ""


def look(config: ModelConfig | None, models_root: str | None, known: Collection[int]) -> Found:
    """``known`` versions were complete when they were first seen, and need not be looked into again."""
    if config is None:
        return Found()
    try:
        base = store.local_path(config.base_path, models_root)
        paths = {number: store.version_path(base, number) for number in store.versions(base)}
    except HeadraceError as error:
        return Found(None, error.message)
    if not paths and not base.is_dir():
        return Found(None, f"base path {base} does not exist")
    lacking = {n: store.missing(path) for n, path in paths.items() if n not in known}
    complete = {n: path for n, path in paths.items() if not lacking.get(n)}
    waiting = "; ".join(f"version {n} is not whole: {lack}" for n, lack in lacking.items() if lack)
    if not complete and not waiting:
        waiting = f"no version under base path {base}; versions are folders named by a number"
    return Found(complete, waiting)
