"""Which versions failed to load, and why in words for who published them: servers speak of
checkpoints and bytes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from gateway.contracts.catalog import VersionStatus
from headrace.protocol import version_policy
from headrace.protocol.errors import HeadraceError
from headrace.store import folders
from headrace.store.model_list import ModelConfig

_GRAPH = "its saved_model.pb is damaged"
_NO_VARIABLES = "its variables are missing"
_WORDS = (
    (
        re.compile(r"Op type not registered '(?P<name>[^']+)'"),
        "the server does not know its operation {name}",
    ),
    (re.compile(r"Can't parse \S*saved_model\.pb(?:txt)? as"), _GRAPH),
    (re.compile(r"Could not find variable|Container \S+ does not exist"), _NO_VARIABLES),
    (re.compile(r"Failed to find any matching files for \S*variables"), _NO_VARIABLES),
    (
        re.compile(
            r"TensorBundle at .* does not match|Data loss.*variables|Unable to open table file"
        ),
        "its variables are damaged",
    ),
)
# Said of both the graph and the variables.
_SHORT_FILE = "Read less bytes than requested"


Versions = tuple[VersionStatus, ...]
Examined = tuple[Versions, Versions]


def examine(versions: Versions, entry: ModelConfig | None, models_root: Path) -> Examined:
    """The versions with their reasons explained, and those of them that failed although the model
    list asks for them.

    A version that is not in the store any more is not missed; where the store cannot be seen, the
    server's list counts.
    """
    # Taken out of the list meanwhile.
    if entry is None:
        return versions, ()
    paths = _paths(entry, models_root)
    explained = tuple(replace(v, reason=explain(v.reason, paths.get(v.version))) for v in versions)
    wanted = version_policy.select(entry.policy, paths or [v.version for v in versions])
    return explained, tuple(
        v for v in explained if v.state == "END" and v.reason and v.version in wanted
    )


def explain(reason: str, folder: Path | None) -> str:
    """``reason`` is the server's; ``folder`` is the version's, where this process can see it."""
    for pattern, words in _WORDS:
        if match := pattern.search(reason):
            return words.format(**match.groupdict())
    if _SHORT_FILE in reason:
        return _short_file(folder)
    # Further lines name nodes of the graph.
    return reason.strip().partition("\n")[0]


def _paths(entry: ModelConfig, models_root: Path) -> dict[int, Path]:
    try:
        base = folders.local_path(entry.base_path, models_root)
        return {number: folders.version_path(base, number) for number in folders.versions(base)}
    except (HeadraceError, OSError):
        return {}


def _short_file(folder: Path | None) -> str:
    try:
        missing = folders.missing(folder) if folder else None
    except (HeadraceError, OSError):
        missing = None
    return f"its variables are damaged: {missing.removesuffix(' yet')}" if missing else _GRAPH
