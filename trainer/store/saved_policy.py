"""The version policy that a model had before it was pinned, which promote restores.

A small file in the store. Its callers hold the lock of editing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headrace.protocol.version_policy import All, Latest, Specific, VersionPolicy
from headrace.store import folders
from trainer.settings import Settings

FILE = ".multimodel.config.before.json"


def save(name: str, policy: VersionPolicy, settings: Settings) -> None:
    """Does not record pins; the last unpinned policy stays."""
    if isinstance(policy, Specific):
        return
    policies = _read(_path(settings))
    if isinstance(policy, Latest):
        policies[name] = policy.num_versions
    else:
        policies[name] = "all"
    folders.replace_file(_path(settings), json.dumps(policies, indent=1, sort_keys=True) + "\n")


def load(name: str, settings: Settings) -> Latest | All:
    """Latest() when no policy was saved."""
    saved = _read(_path(settings)).get(name)
    if saved == "all":
        return All()
    if isinstance(saved, int) and saved > 0:
        return Latest(saved)
    return Latest()


def _path(settings: Settings) -> Path:
    return settings.store / FILE


def _read(path: Path) -> dict[str, Any]:
    try:
        policies = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return policies if isinstance(policies, dict) else {}
