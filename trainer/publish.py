"""Publishes an export: staging folder, card, gate, next version, live config.

Imports no TensorFlow.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from headrace.store import card, folders
from headrace.store.card import Card
from headrace.store.folders import RenderedLive
from trainer.errors import Refused, Usage
from trainer.exports import contract, gate, keras_file, new_card, warmup
from trainer.exports.gate import Check
from trainer.settings import Settings, Tell
from trainer.store import new_version, versions


@dataclass(frozen=True, slots=True)
class Published:
    """A new version, and what the list of models now serves."""

    name: str
    version: int
    path: Path
    card: Card
    live: RenderedLive
    # The versions that the list serves, this one among them or not.
    serves: tuple[int, ...]


def publish(
    name: str, settings: Settings, fill: Callable[[Path], Card], *, tell: Tell, force: bool = False
) -> Published:
    """Publish what ``fill`` writes into the folder it is given; it returns what its card knows.

    Raises Refused when the gate keeps it out.
    """
    model = versions.folder(name, settings)
    parent = versions.live(name, settings)
    with new_version.staged(model) as staged:
        filled_card = fill(staged.path)
        export_card = new_card.finished(filled_card, staged.path, parent=parent)
        new_card.write(export_card, staged.path)

        checks = gate.check(staged.path)
        if parent is not None:
            live_path = folders.version_path(model, parent)
            live_card = card.read(live_path)
            checks.append(contract.against_live(staged.path, live_path, version=parent))
            checks += gate.against_live(export_card, live_card, version=parent)
        for check in checks:
            tell(check.line)

        export_card["checks"] = [asdict(check) for check in checks]
        export_card["forced"] = _overruled(name, checks, force=force)
        new_card.write(export_card, staged.path)
        version = staged.publish()
    return Published(
        name,
        version,
        model / str(version),
        export_card,
        live=folders.render_live(settings.config, settings.store),
        serves=versions.served(name, settings),
    )


def publish_export(
    name: str, export: Path, settings: Settings, *, tell: Tell, force: bool = False
) -> Published:
    """Publish a SavedModel that was exported elsewhere, or a model that Keras saved."""
    is_keras = export.suffix in keras_file.SUFFIXES and export.is_file()
    _check_export(export, is_keras=is_keras)

    def fill(folder: Path) -> Card:
        if is_keras:
            keras_card = keras_file.export(export, folder, tell=tell)
            export_card = {"model": name, **keras_card}
        else:
            export_card = _copy_saved_model(name, export, folder)
        added = warmup.add_missing(name, folder)
        tell(f"  {added}")
        return export_card

    return publish(name, settings, fill, tell=tell, force=force)


def _check_export(export: Path, *, is_keras: bool) -> None:
    if not export.exists():
        raise Usage(f"{export} does not exist")
    if is_keras:
        return
    if export.is_file():
        raise Usage(
            f"{export} is a file, expected the folder of a SavedModel, or a Keras model "
            "(.keras, .h5)"
        )
    missing = folders.missing(export)
    if missing is not None:
        raise Usage(f"{export} is not a SavedModel: {missing}")


def _copy_saved_model(name: str, export: Path, folder: Path) -> Card:
    _copy(export, folder)
    export_card = card.read(export)
    changed = card.changed_files(export_card, folder)
    if changed:
        names = ", ".join(changed)
        raise Refused(f"{name} was not published: not as on the card it brought: {names}")
    return new_card.of_export(name, export_card)


def _overruled(name: str, checks: list[Check], *, force: bool) -> list[str]:
    """The reasons that --force overruled, for the card. Raises Refused if any other one stands."""
    refusing = [check for check in checks if check.refuses]
    can_be_forced = all(check.forcible for check in refusing)
    if not refusing or (force and can_be_forced):
        return [f"{check.name}: {check.detail}" for check in refusing]
    if force:
        advice = " (and this cannot be forced)"
    elif can_be_forced:
        advice = " (--force publishes it, and its card says so)"
    else:
        advice = ""
    reasons = gate.refusal(checks)
    raise Refused(f"{name} was not published: {reasons}{advice}")


def _copy(source: Path, target: Path) -> None:
    """Copy contents alone: the modes of a temporary folder would lock the server out."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir()
        else:
            shutil.copyfile(path, copy)
