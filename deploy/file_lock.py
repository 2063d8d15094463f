"""A lock file: one make at a time, where two would get in each other's way."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.terminal import Stop


@contextmanager
def exclusive(lock: Path, *, advice: str | None = None) -> Iterator[None]:
    """Hold the lock file; a second make waits for the first.

    ``advice`` is for somebody who may not write the file.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except PermissionError as error:
        message = f"{lock} cannot be written: {_owner(lock)}."
        if advice:
            message += f" {advice}"
        raise Stop(message) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _owner(path: Path) -> str:
    """Whose the file is, or else the folder that keeps it from being seen or made."""
    for candidate in (path, *path.parents):
        name = "it" if candidate == path else str(candidate)
        try:
            return f"{name} belongs to {candidate.owner()}"
        except KeyError:
            return f"{name} belongs to the user of id {candidate.stat().st_uid}"
        except OSError:
            continue
    return "its folder cannot be seen"
