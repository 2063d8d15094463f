"""The folder of a training, <cache>/runs/NAME/STAMP/, and which of them can be resumed.

One process owns a run folder; its lock is released even if it is killed.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from trainer.runs.run import CHECKPOINT

_ABOUT, _LOCK = "run.json", ".lock"


@dataclass(frozen=True, slots=True)
class RunFolder:
    path: Path

    def remove_checkpoint(self) -> None:
        """At the end of a training; its figures stay."""
        (self.path / CHECKPOINT).unlink(missing_ok=True)


@contextmanager
def resume_or_start(parent: Path, key: str, *, fresh: bool = False) -> Iterator[RunFolder]:
    """The folder of the latest unfinished training with the same ``key``, or a new one."""
    parent.mkdir(parents=True, exist_ok=True)
    lock = None
    folder = parent
    for folder in [] if fresh else _unfinished(parent, key):
        lock = _try_lock(folder)
        if lock is not None:
            break
    if lock is None:
        folder = _new(parent, key)
        lock = _try_lock(folder)
    try:
        yield RunFolder(folder)
    finally:
        if lock is not None:
            os.close(lock)


def _unfinished(parent: Path, key: str) -> list[Path]:
    """The latest first."""
    folders = [checkpoint.parent for checkpoint in parent.glob(f"*/{CHECKPOINT}")]
    return [folder for folder in sorted(folders, reverse=True) if _key(folder) == key]


def _new(parent: Path, key: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    folder = parent / stamp
    folder.mkdir()
    (folder / _ABOUT).write_text(json.dumps({"key": key}) + "\n", encoding="utf-8")
    return folder


def _key(folder: Path) -> str | None:
    try:
        key: str = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return key


def _try_lock(folder: Path) -> int | None:
    """None when another process is at work in it."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
