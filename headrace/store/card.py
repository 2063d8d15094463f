"""The model card: what a version was made of and how good it is, as JSON beside the model.

This is its one reader; the trainer writes it. Cards of earlier releases are read as well.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

# TensorFlow Serving ignores the files in this folder that it does not know.
FOLDER = "assets.extra"
FILE = f"{FOLDER}/card.json"

Card = dict[str, Any]


def read(version: Path) -> Card:
    """The card of a version, or {} when there is none that can be read.

    A card only describes its version, so a damaged one is not an error.
    """
    try:
        card = json.loads((version / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(card, dict):
        return {}
    return _with_current_keys(card)


def checksums(version: Path) -> dict[str, str]:
    """The sha256 of every file of a version except the card itself."""
    sums = {}
    for path in sorted(version.rglob("*")):
        name = path.relative_to(version).as_posix()
        if name == FILE or not path.is_file():
            continue
        with path.open("rb") as file:
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def changed_files(card: Card, version: Path) -> list[str]:
    """Files that were changed, added or removed since the card was written.

    [] for a card without checksums.
    """
    recorded = card.get("files")
    if not recorded:
        return []
    actual = checksums(version)
    names = recorded.keys() | actual.keys()
    return sorted(name for name in names if recorded.get(name) != actual.get(name))


def _with_current_keys(card: Card) -> Card:
    """Gives the keys that earlier releases wrote their present names."""
    metric = card.get("metric")
    if isinstance(metric, dict):
        _rename(metric, "may_lose", "max_regression")
    checks = card.get("checks")
    if isinstance(checks, list):
        for check in checks:
            if isinstance(check, dict):
                _rename(check, "told", "detail")
    return card


def _rename(entry: Card, old: str, new: str) -> None:
    if old in entry and new not in entry:
        entry[new] = entry.pop(old)
