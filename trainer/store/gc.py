"""gc: removes old versions from the store, never one that is live, pinned or has a label."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from headrace.store import folders, model_list
from trainer import staging
from trainer.settings import Settings, Tell
from trainer.store import gateway_status, versions

_PREFIX = ".removing-"


def collect(name: str, settings: Settings, *, keep: int, dry_run: bool, tell: Tell) -> None:
    """Remove all but the last ``keep`` versions and those in use.

    An incomplete version is left alone: somebody may be copying it.
    """
    complete = versions.complete(name, settings)
    used = in_use(name, settings)
    candidates = complete[:-keep]
    old = [version for version in candidates if version not in used]
    if not old:
        tell(f"{name}: nothing to remove of {len(complete)}")

    folder = versions.folder(name, settings)
    for version in old:
        path = folders.version_path(folder, version)
        size_mb = _size(path) / 1e6
        if dry_run:
            tell(f"{name}: version {version} would be removed ({size_mb:.1f} MB)")
        else:
            _remove(path)
            tell(f"{name}: version {version} removed ({size_mb:.1f} MB)")

    for version in candidates:
        if version in used:
            tell(f"{name}: version {version} stays, it is live or has a label")


def in_use(name: str, settings: Settings) -> set[int]:
    """The versions that the list of models serves or labels, and those that the servers serve."""
    used = set(versions.served(name, settings))
    model = model_list.load(settings.config).model(name)
    if model is not None:
        used.update(model.labels.values())
    statuses = gateway_status.read(settings.gateway)
    status = statuses.get(name)
    if status is not None:
        used.update(status.available)
    return used


def _size(folder: Path) -> int:
    """Bytes of all files."""
    size = 0
    for path in folder.rglob("*"):
        if path.is_file():
            size += path.stat().st_size
    return size


def _remove(path: Path) -> None:
    """Renames the version out of sight first, so that no server ever sees half of it."""
    with staging.folder(path.parent, prefix=_PREFIX) as folder:
        os.rename(path, folder / "version")
        shutil.rmtree(folder / "version")
