"""reload: checks the user's list of models, renders it, and waits until the servers serve it."""

from __future__ import annotations

import posixpath
from pathlib import Path

from headrace.protocol import version_policy
from headrace.protocol.errors import HeadraceError
from headrace.protocol.version_policy import Specific
from headrace.store import folders, model_list
from headrace.store.model_list import ModelConfig, ServingConfig
from trainer import zoo
from trainer.errors import Usage
from trainer.settings import Settings, Tell
from trainer.store import gateway_status
from trainer.store.gateway_status import ExpectedModel


def reload(settings: Settings, *, all_folders: bool, tell: Tell) -> None:
    """Make the list of models live. ``all_folders``: base paths outside the store can be seen too.

    Raises Usage for a list that cannot be served, and then changes nothing; NotLive when the
    servers do not come to serve it.
    """
    listed = model_list.load(settings.config)
    _check(listed, settings, all_folders=all_folders)

    rendered = folders.render_live(settings.config, settings.store)
    if rendered.waiting:
        names = " ".join(rendered.waiting)
        tell(
            f"without a version yet, so left out: {names}; "
            f'`make train MODELS="{names}"` trains them'
        )
    if rendered.removed:
        removed = ", ".join(rendered.removed)
        tell(f"no longer in the list, so taken away: {removed}")

    live_list = model_list.load(settings.store / folders.CONFIG_NAME)
    for warning in folders.unserved_labels(live_list, settings.store):
        tell(f"warning: {warning}")

    tell("waiting until the change is live")
    expected = []
    for model in live_list.models:
        expected.append(_expected(model, settings, all_folders=all_folders))
    gateway_status.wait_until_live(
        settings.gateway,
        expected,
        timeout_s=settings.live_timeout_s,
        no_others=True,
    )
    live_names = [model.name for model in live_list.models]
    live = ", ".join(live_names) or "no model"
    tell(f"live: {live}")


def _check(listed: ServingConfig, settings: Settings, *, all_folders: bool) -> None:
    already_served = _names_in_live_list(settings)
    for model in listed.models:
        folder = _folder(model, settings, all_folders=all_folders)
        if folder is None:
            continue
        fault = _fault(model, folder)
        if fault is None:
            continue
        # A model of the zoo without any version waits for its training; all else is a mistake.
        never_trained = model.name not in already_served and model.name in zoo.names()
        if not (never_trained and _is_in_store(model)):
            raise Usage(
                f"{model.name}: base_path {model.base_path}: {folder} {fault}. "
                "The models of before go on being served"
            )


def _names_in_live_list(settings: Settings) -> set[str]:
    try:
        listed = model_list.load(settings.store / folders.CONFIG_NAME)
    except HeadraceError:
        return set()
    return {model.name for model in listed.models}


def _folder(model: ModelConfig, settings: Settings, *, all_folders: bool) -> Path | None:
    """Where its versions are; None where only the server can see that."""
    if not all_folders and not _is_in_store(model):
        return None
    try:
        return folders.local_path(model.base_path, settings.store)
    except HeadraceError:
        return None


def _is_in_store(model: ModelConfig) -> bool:
    base_path = posixpath.normpath(model.base_path) + "/"
    return base_path.startswith(folders.MODELS_PREFIX + "/")


def _fault(model: ModelConfig, folder: Path) -> str | None:
    """Why nothing can be served from the folder."""
    if not folder.is_dir():
        return "does not exist"
    present = folders.versions(folder)
    selected = version_policy.select(model.policy, present)
    missing: str | None = None
    for version in selected:
        missing = folders.missing(folders.version_path(folder, version))
        if missing is None:
            return None
    if missing:
        return f"has no whole version; version {selected[-1]}: {missing}"
    if isinstance(model.policy, Specific) and present:
        return f"has versions {_listed(present)} and not {_listed(model.policy.versions)}"
    return "has no version"


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def _expected(model: ModelConfig, settings: Settings, *, all_folders: bool) -> ExpectedModel:
    folder = _folder(model, settings, all_folders=all_folders)
    if folder is None:
        return ExpectedModel(model, None)
    complete = folders.complete_versions(folder)
    served = version_policy.select(model.policy, complete)
    return ExpectedModel(model, frozenset(served))
