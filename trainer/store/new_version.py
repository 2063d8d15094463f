"""A new version of a model: a staging folder that is synced, numbered and renamed into the store.

Knows folders and numbers, not what is in them. No server ever sees half of a version; what a killed
process leaves behind has a name that no server reads, and the next publish removes it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.store import folders
from trainer import staging

# Not a number, so that no server takes it for a version.
PREFIX = ".staging-"


@dataclass(frozen=True, slots=True)
class StagedVersion:
    """A folder to fill, on the same filesystem as the versions beside it."""

    path: Path

    def publish(self) -> int:
        """Make this the next version. It is on disk as a whole, or not there."""
        sync(self.path)
        model = self.path.parent
        with staging.locked(model):
            # Every number counts, also that of a folder which somebody is still copying.
            number = max((0, *folders.versions(model))) + 1
            while not _rename(self.path, model / str(number)):
                # Somebody who does not take our lock was faster.
                number += 1
        _sync_folder(model)
        return number


@contextmanager
def staged(model: Path) -> Iterator[StagedVersion]:
    """A fresh folder inside ``model`` to fill and publish; removed if it was not published."""
    with staging.folder(model, prefix=PREFIX) as path:
        yield StagedVersion(path)


def sync(folder: Path) -> None:
    """Write all files and folders below ``folder``, and then the folder itself, to the disk."""
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
    """False when ``target`` exists; os.rename alone would replace an empty folder."""
    if os.path.lexists(target):
        return False
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    return True
