"""A folder aside, to be filled out of sight and renamed into place; gone afterwards, also when its
owner was killed.

The living are told from the dead by a lock that the kernel holds for them.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"


@contextmanager
def folder(parent: Path, *, prefix: str) -> Iterator[Path]:
    """A fresh folder inside ``parent``. What is still there under its name at the end is
    removed."""
    parent.mkdir(parents=True, exist_ok=True)
    path = parent / f"{prefix}{secrets.token_hex(4)}"
    with locked(parent):
        _sweep(parent, prefix)
        # Not tempfile's: that would be readable to nobody else, and so would the version.
        path.mkdir()
        mark = _hold(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(mark)


@contextmanager
def locked(parent: Path) -> Iterator[None]:
    """One at a time in ``parent``; the kernel lets go of the lock of one that dies."""
    descriptor = os.open(parent / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _hold(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _sweep(parent: Path, prefix: str) -> None:
    """Remove what the dead left. Called under the lock, so that no folder is between being made and
    being held."""
    for path in parent.glob(f"{prefix}*"):
        with suppress(BlockingIOError, FileNotFoundError):
            # Its owner is at work, or has just finished.
            descriptor = _hold(path)
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)
