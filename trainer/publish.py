"""Publishing: stage -> card -> gate -> the next version -> the live config. Imports no
TensorFlow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from headrace.store import folders, model_list
from headrace.store.folders import RenderedLive
from trainer.errors import Refused, Usage
from trainer.exports import card, contract, gate, keras_file, warmup
from trainer.exports.card import Card
from trainer.exports.gate import Check
from trainer.settings import Settings, Tell
from trainer.store import shelf, staging


@dataclass(frozen=True, slots=True)
class Published:
    """``serves`` are the versions that the user's list asks for now, this one among them or not."""

    name: str
    version: int
    path: Path
    card: Card
    live: RenderedLive
    serves: tuple[int, ...]


def publish(
    name: str, settings: Settings, fill: Callable[[Path], Card], *, tell: Tell, force: bool = False
) -> Published:
    """``fill`` writes the export into the folder it is given and returns what its card knows.
    Raises Refused."""
    model = shelf.folder(name, settings)
    parent = shelf.live_version(name, settings)
    with staging.staged(model) as staged:
        made = card.finished(fill(staged.path), staged.path, parent=parent)
        card.write(made, staged.path)
        checks = gate.check(staged.path)
        if parent is not None:
            live_path = folders.version_path(model, parent)
            checks.append(contract.against_live(staged.path, live_path, version=parent))
            checks += gate.against_live(made, card.read(live_path), version=parent)
        for check in checks:
            tell(check.line)
        made["checks"] = [asdict(check) for check in checks]
        made["forced"] = _passed(name, checks, force=force)
        card.write(made, staged.path)
        version = staged.publish()
    live = folders.render_live(settings.config, settings.store)
    serves = shelf.served(
        model_list.load(settings.config).model(name), shelf.versions(name, settings)
    )
    return Published(name, version, model / str(version), made, live, serves)


def publish_ready(
    name: str, ready: Path, settings: Settings, *, tell: Tell, force: bool = False
) -> Published:
    """A SavedModel that somebody else exported, or a model that Keras saved."""
    is_keras = ready.suffix in keras_file.SUFFIXES and ready.is_file()
    if not ready.exists():
        raise Usage(f"{ready} does not exist")
    if ready.is_file() and not is_keras:
        raise Usage(
            f"{ready} is a file, expected the folder of a SavedModel, or a Keras model (.keras, "
            ".h5)"
        )
    if not is_keras and not folders.is_complete(ready):
        raise Usage(f"{ready} is not a SavedModel: {folders.missing(ready)}")

    def fill(folder: Path) -> Card:
        if is_keras:
            made = keras_file.export(ready, folder, tell=tell)
            tell(f"  {warmup.give(name, folder)}")
            return {"model": name, **made}
        _copy(ready, folder)
        brought = card.read(ready)
        if wrong := card.changed(brought, folder):
            raise Refused(
                f"{name} was not published: not as on the card it brought: {', '.join(wrong)}"
            )
        tell(f"  {warmup.give(name, folder)}")
        return card.of_export(name, brought)

    return publish(name, settings, fill, tell=tell, force=force)


def _passed(name: str, checks: list[Check], *, force: bool) -> list[str]:
    """The reasons that were overruled, for the card. Raises Refused unless they may be, and are."""
    refusing = [check for check in checks if check.refuses]
    final = [check for check in refusing if not check.forcible]
    if not refusing or (force and not final):
        return [f"{check.name}: {check.told}" for check in refusing]
    told = "; ".join(f"{check.name}: {check.told}" for check in refusing)
    way = (
        " (and this cannot be forced)"
        if force
        else ""
        if final
        else " (--force publishes it, and its card says so)"
    )
    raise Refused(f"{name} was not published: {told}{way}")


def _copy(source: Path, target: Path) -> None:
    """Contents alone: modes as private as a temporary folder's would lock the server out."""
    for path in sorted(source.rglob("*")):
        to = target / path.relative_to(source)
        if path.is_dir():
            to.mkdir()
        else:
            shutil.copyfile(path, to)
