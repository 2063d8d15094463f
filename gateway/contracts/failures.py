"""Which versions failed to load, and why, in words for those who published them: servers speak of
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

Versions = tuple[VersionStatus, ...]
# All versions, and those of them that failed.
Examined = tuple[Versions, Versions]

_BAD_GRAPH = "its saved_model.pb is damaged"
_NO_VARIABLES = "its variables are missing"
_BAD_VARIABLES = "its variables are damaged"
_UNKNOWN_OPERATION = "the server does not know its operation {name}"
# What a server's reason is recognized by, and our words for it.
_EXPLANATIONS = (
    (r"Op type not registered '(?P<name>[^']+)'", _UNKNOWN_OPERATION),
    (r"Can't parse \S*saved_model\.pb(?:txt)? as", _BAD_GRAPH),
    (r"Could not find variable|Container \S+ does not exist", _NO_VARIABLES),
    (r"Failed to find any matching files for \S*variables", _NO_VARIABLES),
    (r"TensorBundle at .* does not match", _BAD_VARIABLES),
    (r"Data loss.*variables|Unable to open table file", _BAD_VARIABLES),
)
_PATTERNS = [(re.compile(pattern), words) for pattern, words in _EXPLANATIONS]
# Said of both the graph and the variables.
_SHORT_FILE = "Read less bytes than requested"


def examine(versions: Versions, config: ModelConfig | None, models_root: Path) -> Examined:
    """The versions with their reasons explained, and those that failed although the model list asks
    for them.

    A version that is gone from the store is not counted as failed. Where the store cannot be seen,
    the server's list of versions stands for it.
    """
    if config is None:
        # Taken out of the list meanwhile.
        return versions, ()
    folder_of = _version_folders(config, models_root)
    numbers = list(folder_of) or [version.version for version in versions]
    selected = version_policy.select(config.policy, numbers)
    explained, failed = [], []
    for version in versions:
        folder = folder_of.get(version.version)
        version = replace(version, reason=explain(version.reason, folder))
        explained.append(version)
        if version.state == "END" and version.reason and version.version in selected:
            failed.append(version)
    return tuple(explained), tuple(failed)


def explain(reason: str, folder: Path | None) -> str:
    """``reason`` is the server's; ``folder`` is the version's, where this process can see it."""
    for pattern, words in _PATTERNS:
        match = pattern.search(reason)
        if match is not None:
            return words.format(**match.groupdict())
    if _SHORT_FILE in reason:
        return _explain_short_file(folder)
    # Further lines name nodes of the graph.
    return reason.strip().partition("\n")[0]


def _version_folders(config: ModelConfig, models_root: Path) -> dict[int, Path]:
    try:
        base = folders.local_path(config.base_path, models_root)
        return {number: folders.version_path(base, number) for number in folders.versions(base)}
    except (HeadraceError, OSError):
        return {}


def _explain_short_file(folder: Path | None) -> str:
    missing: str | None = None
    if folder is not None:
        try:
            missing = folders.missing(folder)
        except (HeadraceError, OSError):
            pass
    if not missing:
        return _BAD_GRAPH
    return f"{_BAD_VARIABLES}: {missing.removesuffix(' yet')}"
