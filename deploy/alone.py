"""One make at a time where two would be in each other's way."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.terminal import Stop


@contextmanager
def alone(lock: Path, *, otherwise: str = "") -> Iterator[None]:
    """Holds the lock file; a second make waits for the first. ``otherwise`` is what one can do
    whose file it is not."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except PermissionError as error:
        raise Stop(
            f"{lock} cannot be written: {_owner(lock)}.{otherwise and f' {otherwise}'}"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _owner(path: Path) -> str:
    """Whose it is, or the folder that keeps it from being seen or made."""
    for place in (path, *path.parents):
        try:
            return f"{'it' if place == path else place} belongs to {place.owner()}"
        except KeyError:
            return (
                f"{'it' if place == path else place} belongs to the user of id "
                f"{place.stat().st_uid}"
            )
        except OSError:
            continue
    return "its folder cannot be seen"
