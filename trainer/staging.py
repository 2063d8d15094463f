"""Staging folders: filled out of sight, renamed into place, and removed if their owner dies.

Each owner holds a lock on its folder. The kernel releases the lock of a killed process, so the next
one knows which folders are abandoned.
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
    """A fresh folder inside ``parent``, removed at the end unless it was renamed."""
    parent.mkdir(parents=True, exist_ok=True)
    path = parent / f"{prefix}{secrets.token_hex(4)}"
    with locked(parent):
        _remove_abandoned(parent, prefix)
        # Not one of tempfile's: nobody else could read it, nor the version that it becomes.
        path.mkdir()
        descriptor = _lock(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


@contextmanager
def locked(parent: Path) -> Iterator[None]:
    """Allows one process at a time in ``parent``; the lock of a killed one is released."""
    descriptor = os.open(parent / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Call it with ``parent`` locked, so that no folder is made but not yet held."""
    for path in parent.glob(f"{prefix}*"):
        # The error says that the owner is at work, or has just finished.
        with suppress(BlockingIOError, FileNotFoundError):
            descriptor = _lock(path)
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)
