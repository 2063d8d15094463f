"""From a folder aside to a version in the store: synced, numbered and renamed, so that nobody ever
sees half of one.

Knows folders and numbers, nothing of what is in them. Whoever dies on the way leaves a folder whose
name no server reads and which the next to publish there removes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.store import folders
from trainer import aside

# Not a number, so no server takes it for a version.
PREFIX = ".staging-"


@dataclass(frozen=True, slots=True)
class Staged:
    """A folder being filled, on the filesystem of the versions it will stand among."""

    path: Path

    def publish(self) -> int:
        """Make it the next version. From here on it is whole on disk or not there."""
        sync(self.path)
        model = self.path.parent
        with aside.locked(model):
            # Everything that bears a number counts, half-copied folders of others too.
            number = max((0, *folders.versions(model))) + 1
            while not _rename(self.path, model / str(number)):
                # Someone who does not take our lock was quicker.
                number += 1
        _sync_folder(model)
        return number


@contextmanager
def staged(model: Path) -> Iterator[Staged]:
    """A fresh folder inside ``model`` to fill and to publish; gone afterwards when it was not
    published."""
    with aside.folder(model, prefix=PREFIX) as path:
        yield Staged(path)


def sync(folder: Path) -> None:
    """All files and folders below, then the folder itself, onto the disk."""
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            with open(os.path.join(root, name), "rb") as file:
                os.fsync(file.fileno())
        _sync_folder(Path(root))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(source: Path, target: Path) -> bool:
    """False when ``target`` is there. os.rename alone would take the place of an empty folder."""
    if os.path.lexists(target):
        return False
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    return True
