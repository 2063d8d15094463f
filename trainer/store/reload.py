"""The user's list of models made live: checked, rendered, and waited for until the servers serve
what it says."""

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
from trainer.store import live


def reload(settings: Settings, *, all_folders: bool, tell: Tell) -> None:
    """Raises Usage for a list that cannot be served as it stands, and leaves the one of before;
    NotLive with the reason when the servers do not come to serve it. ``all_folders``: those outside
    the store can be seen from here too.
    """
    _check(model_list.load(settings.config), settings, all_folders=all_folders)
    rendered = folders.render_live(settings.config, settings.store)
    if rendered.waiting:
        names = " ".join(rendered.waiting)
        tell(
            f'without a version yet, so left out: {names}; `make train MODELS="{names}"` trains '
            "them"
        )
    if rendered.removed:
        tell(f"no longer in the list, so taken away: {', '.join(rendered.removed)}")
    rendered_list = model_list.load(settings.store / folders.CONFIG_NAME)
    for warning in folders.unserved_labels(rendered_list, settings.store):
        tell(f"warning: {warning}")
    models = rendered_list.models
    tell("waiting until the change is live")
    expected = [
        live.Expected(model, _serves(model, settings, all_folders=all_folders)) for model in models
    ]
    live.wait(settings.gateway, expected, timeout_s=settings.live_timeout_s, alone=True)
    tell(f"live: {', '.join(model.name for model in models) or 'no model'}")


def _check(listed: ServingConfig, settings: Settings, *, all_folders: bool) -> None:
    served = _served_before(settings)
    for model in listed.models:
        folder = _folder(model, settings, all_folders=all_folders)
        if folder is None or not (lack := _lack(model, folder)):
            continue
        # One of the zoo that never had a version waits for its training; any other is a mistake.
        if model.name in served or model.name not in zoo.names() or not _is_in_store(model):
            raise Usage(
                f"{model.name}: base_path {model.base_path}: {folder} {lack}. The models of "
                "before go on being served"
            )


def _served_before(settings: Settings) -> set[str]:
    try:
        return {
            model.name for model in model_list.load(settings.store / folders.CONFIG_NAME).models
        }
    except HeadraceError:
        return set()


def _folder(model: ModelConfig, settings: Settings, *, all_folders: bool) -> Path | None:
    """Where its versions are; None where only the server can see that."""
    if not all_folders and not _is_in_store(model):
        return None
    try:
        return folders.local_path(model.base_path, settings.store)
    except HeadraceError:
        return None


def _is_in_store(model: ModelConfig) -> bool:
    return (posixpath.normpath(model.base_path) + "/").startswith(folders.MODELS_PREFIX + "/")


def _lack(model: ModelConfig, folder: Path) -> str:
    """Why nothing can be served from there; empty when something can."""
    if not folder.is_dir():
        return "does not exist"
    present = folders.versions(folder)
    asked = version_policy.select(model.policy, present)
    lacking = [folders.missing(folders.version_path(folder, version)) for version in asked]
    if not all(lacking):
        return ""
    if asked:
        return f"has no whole version; version {asked[-1]}: {lacking[-1]}"
    if isinstance(model.policy, Specific) and present:
        return f"has versions {_listed(present)} and not {_listed(model.policy.versions)}"
    return "has no version"


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def _serves(model: ModelConfig, settings: Settings, *, all_folders: bool) -> frozenset[int] | None:
    folder = _folder(model, settings, all_folders=all_folders)
    if folder is None:
        return None
    whole = (
        v for v in folders.versions(folder) if folders.is_complete(folders.version_path(folder, v))
    )
    return frozenset(version_policy.select(model.policy, whole))
