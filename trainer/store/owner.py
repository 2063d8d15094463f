"""Whose a folder is that we may not use: the ids that the error itself does not name."""

from __future__ import annotations

import os
from pathlib import Path


def hint(path: Path) -> str:
    """What to do about a "Permission denied" at ``path``, which need not be there yet."""
    place = next((each for each in (path, *path.resolve().parents) if _exists(each)), Path("/"))
    whose, me = place.stat().st_uid, os.geteuid()
    if whose == me:
        return (
            f"{place} belongs to uid {whose}, as whom this runs: its mode is "
            f"{place.stat().st_mode & 0o777:o}"
        )
    return (
        f"{place} belongs to uid {whose} and this runs as uid {me}: run it as uid {whose} (in "
        "containers HEADRACE_UID="
        f"{whose}), or give the folder away (chown -R {me} {place})"
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        # Behind a folder that may not be entered.
        return False
