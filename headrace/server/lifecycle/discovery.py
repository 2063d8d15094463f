"""Which complete versions of a model are on disk, or why there are none."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.protocol.errors import HeadraceError
from headrace.server import paths
from headrace.store import folders
from headrace.store.model_list import ModelConfig


@dataclass(frozen=True, slots=True)
class Discovered:
    """``paths`` is None when the folder cannot be read: loaded versions then stay. ``problem`` says
    why a version is missing or incomplete."""

    paths: Mapping[int, Path] | None = field(default_factory=dict)
    problem: str | None = None


def discover(
    config: ModelConfig | None,
    models_root: str | None,
    known: Collection[int],
    *,
    bare: bool = False,
) -> Discovered:
    """``known`` versions were complete once and are not checked again. ``bare``: a base path that
    is a SavedModel itself counts as version 1."""
    if config is None:
        return Discovered()
    try:
        base = folders.local_path(config.base_path, models_root)
        versions = _versions(base, bare=bare)
    except HeadraceError as error:
        return Discovered(None, error.message)
    if not versions and not base.is_dir():
        example = base / "1"
        return Discovered(
            None,
            f"base path {base} does not exist; expected a folder with versions, such as {example}",
        )
    complete: dict[int, Path] = {}
    incomplete: list[str] = []
    for number, path in versions.items():
        missing = None if number in known else folders.missing(path)
        if missing:
            incomplete.append(f"version {number} is incomplete: {missing}")
        else:
            complete[number] = path
    if incomplete:
        return Discovered(complete, "; ".join(incomplete))
    if not complete:
        return Discovered(complete, _no_version(base))
    return Discovered(complete)


def _versions(base: Path, *, bare: bool) -> dict[int, Path]:
    if bare and folders.saved_model(base):
        return {1: base}
    return {number: folders.version_path(base, number) for number in folders.versions(base)}


def _no_version(base: Path) -> str:
    serve = f"`headrace serve {base}`"
    if folders.saved_model(base):
        return (
            f"base path {base} is a SavedModel, not a folder of versions; move it to "
            f"{base / '1'}, or run {serve}"
        )
    names = [model.name for model in paths.models_in(base)]
    if names:
        return (
            f"no version under base path {base}, but models ({', '.join(names)}); {serve} "
            "serves them"
        )
    return f"no version under base path {base}; versions are folders named by a number"
