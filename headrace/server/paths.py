"""What `headrace serve PATH` serves: a folder of versions, one SavedModel, or a folder that holds
such models."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.protocol.errors import InvalidArgument, NotFound
from headrace.protocol.version_policy import Specific
from headrace.store import folders
from headrace.store.model_list import ModelConfig, ServingConfig

EXPECTED = (
    "expected a folder of versions (folders named by a number), a SavedModel, or a folder of models"
)


def serving_config(path: str, *, model_name: str = "") -> ServingConfig:
    """Models are named by their folders, one model by ``model_name`` if there is one. A SavedModel
    that stands in no folder of versions is its own base path: the repository must be one that takes
    it."""
    folder = Path(os.path.abspath(path))
    if not folder.is_dir():
        fault = "is no folder" if folder.exists() else "does not exist"
        raise NotFound(f"{path} {fault}; {EXPECTED}")
    models = (
        [_model(folder)] if is_model(folder) else [_model(child) for child in models_in(folder)]
    )
    if not models:
        raise NotFound(f"{path} holds no model; {EXPECTED}")
    if model_name and len(models) > 1:
        raise InvalidArgument(
            f"model_name is {model_name!r}, and {path} holds {len(models)} models"
        )
    if model_name:
        models = [ModelConfig(model_name, model.base_path, policy=model.policy) for model in models]
    return ServingConfig(tuple(models))


def is_model(folder: Path) -> bool:
    return folders.saved_model(folder) is not None or bool(folders.versions(folder))


def models_in(folder: Path) -> list[Path]:
    children = sorted(
        child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")
    )
    return [child for child in children if is_model(child)]


def _model(folder: Path) -> ModelConfig:
    if folders.saved_model(folder) is None:
        return ModelConfig(folder.name, str(folder))
    number = next(
        (
            n
            for n in folders.versions(folder.parent)
            if folders.version_path(folder.parent, n) == folder
        ),
        None,
    )
    if number is None:
        return ModelConfig(folder.name, str(folder))
    return ModelConfig(folder.parent.name, str(folder.parent), policy=Specific((number,)))
