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


def serving_config(path: str, *, model_name: str | None = None) -> ServingConfig:
    """Each model has the name of its folder; a single model may be given another ``model_name``. A
    SavedModel outside a folder of versions is its own base path, which the repository must
    allow."""
    folder = Path(os.path.abspath(path))
    if not folder.is_dir():
        fault = "is no folder" if folder.exists() else "does not exist"
        raise NotFound(f"{path} {fault}; {EXPECTED}")
    if is_model(folder):
        models = [_model(folder)]
    else:
        models = [_model(child) for child in models_in(folder)]
    if not models:
        raise NotFound(f"{path} holds no model; {EXPECTED}")
    if model_name is None:
        return ServingConfig(tuple(models))
    if len(models) > 1:
        raise InvalidArgument(
            f"model_name is {model_name!r}, and {path} holds {len(models)} models"
        )
    (model,) = models
    return ServingConfig((ModelConfig(model_name, model.base_path, policy=model.policy),))


def is_model(folder: Path) -> bool:
    return folders.saved_model(folder) is not None or bool(folders.versions(folder))


def models_in(folder: Path) -> list[Path]:
    models = []
    for child in sorted(folder.iterdir()):
        is_hidden = child.name.startswith(".")
        if child.is_dir() and not is_hidden and is_model(child):
            models.append(child)
    return models


def _model(folder: Path) -> ModelConfig:
    base = folder.parent
    if folders.saved_model(folder) is not None:
        for number in folders.versions(base):
            if folders.version_path(base, number) == folder:
                return ModelConfig(base.name, str(base), policy=Specific((number,)))
    return ModelConfig(folder.name, str(folder))
