"""gc: old versions leave the store, never one that is live, pinned or named by a label."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from headrace.store import folders, model_list
from trainer import aside
from trainer.settings import Settings, Tell
from trainer.store import live, shelf
from trainer.store.shelf import served

_PREFIX = ".removing-"


def collect(name: str, settings: Settings, *, keep: int, dry: bool, tell: Tell) -> None:
    """All whole versions but the last ``keep`` and those in use. What is not whole is somebody's
    copy under way."""
    whole = shelf.versions(name, settings)
    used = in_use(name, whole, settings)
    old = [version for version in whole[:-keep] if version not in used]
    spared = [version for version in whole[:-keep] if version in used]
    if not old:
        tell(f"{name}: nothing to remove of {len(whole)}")
    for version in old:
        path = folders.version_path(shelf.folder(name, settings), version)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if not dry:
            _remove(path)
        tell(
            f"{name}: version {version} {'would be removed' if dry else 'removed'} "
            f"({size / 1e6:.1f} MB)"
        )
    for version in spared:
        tell(f"{name}: version {version} stays, it is live or has a label")


def in_use(name: str, whole: tuple[int, ...], settings: Settings) -> set[int]:
    """What the list of models serves and labels, and what the running servers say they serve,
    should the two differ."""
    model = model_list.load(settings.config).model(name)
    used = {*served(model, whole), *(model.labels.values() if model else ())}
    running = live.ask(settings.gateway, name)
    return used | running.available if running else used


def _remove(path: Path) -> None:
    """Renamed out of the servers' sight first: they never see half of one, and neither does who
    comes after a kill."""
    with aside.folder(path.parent, prefix=_PREFIX) as folder:
        os.rename(path, folder / "version")
        shutil.rmtree(folder / "version")
