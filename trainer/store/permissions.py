"""What to do about a "Permission denied": names the owner, which the error does not."""

from __future__ import annotations

import os
from pathlib import Path


def hint(path: Path) -> str:
    """Advice for ``path``, which need not exist yet."""
    existing = _nearest_existing(path)
    status = existing.stat()
    owner, me = status.st_uid, os.geteuid()
    if owner == me:
        mode = status.st_mode & 0o777
        return f"{existing} belongs to uid {owner}, as whom this runs: its mode is {mode:o}"
    return (
        f"{existing} belongs to uid {owner} and this runs as uid {me}: run it as uid {owner} "
        f"(in containers HEADRACE_UID={owner}), or give the folder away "
        f"(chown -R {me} {existing})"
    )


def _nearest_existing(path: Path) -> Path:
    for candidate in (path, *path.resolve().parents):
        try:
            if candidate.exists():
                return candidate
        except PermissionError:
            # It is behind a folder that may not be entered.
            continue
    return Path("/")
