"""The policy that an entry had before it was pinned, for promote to go back to: a small file in the
store.

Called by who holds the lock of editing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headrace.protocol.version_policy import All, Latest, Specific, VersionPolicy
from headrace.store import folders
from trainer.settings import Settings

FILE = ".multimodel.config.before.json"


def keep(name: str, policy: VersionPolicy, settings: Settings) -> None:
    """A pin is not worth going back to: what is kept then stays."""
    if not isinstance(policy, Specific):
        kept = {
            **_read(_path(settings)),
            name: policy.num_versions if isinstance(policy, Latest) else "all",
        }
        folders.replace_file(_path(settings), json.dumps(kept, indent=1, sort_keys=True) + "\n")


def policy(name: str, settings: Settings) -> Latest | All:
    """The newest version alone where nothing is known."""
    found = _read(_path(settings)).get(name)
    if found == "all":
        return All()
    return Latest(found) if isinstance(found, int) and found > 0 else Latest()


def _path(settings: Settings) -> Path:
    return settings.store / FILE


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
