"""Where trainings are kept: <cache>/runs/NAME/STAMP/, and which of them may be taken up again.

A folder is of one process at a time; the kernel lets go of the lock of one that was killed.
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
class Kept:
    """The folder of one training."""

    folder: Path

    def done(self) -> None:
        """It came to its end: its figures stay, its checkpoint goes."""
        (self.folder / CHECKPOINT).unlink(missing_ok=True)


@contextmanager
def taken_up(parent: Path, key: str, *, fresh: bool = False) -> Iterator[Kept]:
    """The latest training that was asked for the same (``key``) and did not come to its end, or a
    new one."""
    parent.mkdir(parents=True, exist_ok=True)
    candidates = (
        [] if fresh else sorted((p.parent for p in parent.glob(f"*/{CHECKPOINT}")), reverse=True)
    )
    for folder in filter(lambda folder: _key(folder) == key, candidates):
        if (lock := _hold(folder)) is not None:
            break
    else:
        folder = _new(parent, key)
        lock = _hold(folder)
    try:
        yield Kept(folder)
    finally:
        if lock is not None:
            os.close(lock)


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


def _hold(folder: Path) -> int | None:
    """None when another process is at work in it."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
