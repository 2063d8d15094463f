"""A model's place in the store: its folder, its whole versions, and those of them that the user's
list serves."""

from __future__ import annotations

from pathlib import Path

from headrace.protocol import version_policy
from headrace.protocol.version_policy import Latest
from headrace.store import folders, model_list
from headrace.store.model_list import ModelConfig
from trainer.errors import Usage
from trainer.exports import card
from trainer.exports.card import Card
from trainer.settings import Settings


def folder(name: str, settings: Settings) -> Path:
    """Where a model's versions are: where its entry in the config says, else the folder of its
    name."""
    entry = model_list.load(settings.config).model(name)
    if entry is not None:
        return folders.local_path(entry.base_path, settings.store)
    if not name or name.startswith(".") or "/" in name:
        # It would lead to another folder, out of the store perhaps.
        raise Usage(f"{name!r} is no name for a model")
    return settings.store / name


def versions(name: str, settings: Settings) -> tuple[int, ...]:
    """The whole versions of a model."""
    place = folder(name, settings)
    return tuple(
        v for v in folders.versions(place) if folders.is_complete(folders.version_path(place, v))
    )


def served(model: ModelConfig | None, whole: tuple[int, ...]) -> tuple[int, ...]:
    """Those of the whole versions that the entry's policy serves; the last one answers callers who
    name none."""
    return version_policy.select(model.policy if model else Latest(), whole)


def live_version(name: str, settings: Settings) -> int | None:
    now = served(model_list.load(settings.config).model(name), versions(name, settings))
    return now[-1] if now else None


def card_of(name: str, version: int, settings: Settings) -> Card:
    return card.read(folders.version_path(folder(name, settings), version))
