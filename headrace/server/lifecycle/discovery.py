"""What is on disk for a model: its complete versions, or what stands in the way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.protocol.errors import HeadraceError
from headrace.server import paths
from headrace.store import folders
from headrace.store.model_list import ModelConfig


@dataclass(frozen=True, slots=True)
class Found:
    """``paths`` is None when the folder cannot be read: then nobody knows, and what is loaded
    should stay."""

    paths: Mapping[int, Path] | None = field(default_factory=dict)
    trouble: str = ""


def look(
    config: ModelConfig | None,
    models_root: str | None,
    known: Collection[int],
    *,
    bare: bool = False,
) -> Found:
    """``known`` versions were complete when they were first seen, and need not be looked into
    again.

    ``bare``: a base path that is a SavedModel itself is version 1."""
    if config is None:
        return Found()
    try:
        base = folders.local_path(config.base_path, models_root)
        if bare and folders.saved_model(base):
            versions = {1: base}
        else:
            versions = {
                number: folders.version_path(base, number) for number in folders.versions(base)
            }
    except HeadraceError as error:
        return Found(None, error.message)
    if not versions and not base.is_dir():
        return Found(
            None,
            f"base path {base} does not exist; expected a folder with versions, such as "
            f"{base / '1'}",
        )
    lacking = {n: folders.missing(path) for n, path in versions.items() if n not in known}
    complete = {n: path for n, path in versions.items() if not lacking.get(n)}
    waiting = "; ".join(f"version {n} is not whole: {lack}" for n, lack in lacking.items() if lack)
    if not complete and not waiting:
        waiting = _without_version(base)
    return Found(complete, waiting)


def _without_version(base: Path) -> str:
    serve = f"`headrace serve {base}`"
    if folders.saved_model(base):
        return (
            f"base path {base} is a SavedModel, not a folder of versions; move it to "
            f"{base / '1'}, or run {serve}"
        )
    if models := [model.name for model in paths.models_in(base)]:
        return (
            f"no version under base path {base}, but models ({', '.join(models)}); {serve} "
            "serves them"
        )
    return f"no version under base path {base}; versions are folders named by a number"
