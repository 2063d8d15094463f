"""A model's versions in the store: their folder, which are complete, which are served."""

from __future__ import annotations

from pathlib import Path

from headrace.protocol import version_policy
from headrace.protocol.version_policy import Latest, VersionPolicy
from headrace.store import card, folders, model_list
from headrace.store.card import Card
from trainer.errors import Usage
from trainer.settings import Settings


def folder(name: str, settings: Settings) -> Path:
    """The base path of a listed model; for any other, the folder of its name in the store."""
    model = model_list.load(settings.config).model(name)
    if model is not None:
        return folders.local_path(model.base_path, settings.store)
    if not name or name.startswith(".") or "/" in name:
        # Such a name could lead out of the store.
        raise Usage(f"{name!r} is not a name for a model")
    return settings.store / name


def complete(name: str, settings: Settings) -> tuple[int, ...]:
    """The versions that can be loaded, ascending."""
    return folders.complete_versions(folder(name, settings))


def served(name: str, settings: Settings) -> tuple[int, ...]:
    """The complete versions that the list of models serves.

    The last one answers calls that name no version. A model that is not listed counts as one that
    serves its latest version.
    """
    model = model_list.load(settings.config).model(name)
    policy: VersionPolicy = Latest()
    if model is not None:
        policy = model.policy
    return version_policy.select(policy, complete(name, settings))


def live(name: str, settings: Settings) -> int | None:
    """The version that answers calls which name none."""
    numbers = served(name, settings)
    if not numbers:
        return None
    return numbers[-1]


def read_card(name: str, version: int, settings: Settings) -> Card:
    path = folders.version_path(folder(name, settings), version)
    return card.read(path)
