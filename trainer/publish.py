"""Publishing: stage -> card -> gate -> the next version -> the live config. Imports no TensorFlow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from headrace.wire import config, store
from headrace.wire.store import RenderedLive
from trainer import card, gate, staging
from trainer.card import Card
from trainer.errors import Refused, Usage
from trainer.settings import Settings

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Published:
    name: str
    version: int
    path: Path
    card: Card
    live: RenderedLive


def publish(name: str, settings: Settings, fill: Callable[[Path], Card], *, tell: Tell) -> Published:
    """``fill`` writes the export into the folder it is given and returns what its card knows. Raises Refused."""
    model = folder(name, settings)
    present = versions(name, settings)
    with staging.staged(model) as staged:
        made = card.finished(fill(staged.path), staged.path, parent=present[-1] if present else None)
        card.write(made, staged.path)
        checks = gate.check(staged.path)
        for check in checks:
            tell(check.line)
        if refusing := [check for check in checks if check.refuses]:
            raise Refused(f"{name} was not published: " + "; ".join(f"{c.name}: {c.told}" for c in refusing))
        made["checks"] = [asdict(check) for check in checks]
        card.write(made, staged.path)
        version = staged.publish()
    live = store.render_live(settings.config, settings.store)
    return Published(name, version, model / str(version), made, live)


def publish_ready(name: str, ready: Path, settings: Settings, *, tell: Tell) -> Published:
    """A SavedModel that somebody else exported."""
    if not name or name.startswith(".") or "/" in name:
        raise Usage(f"{name!r} is no name for a model")
    if not store.is_complete(ready):
        raise Usage(f"{ready} is not a SavedModel: saved_model.pb or variables are missing")

    def fill(folder: Path) -> Card:
        _copy(ready, folder)
        brought = card.read(ready)
        if wrong := card.changed(brought, folder):
            raise Refused(f"{name} was not published: not as on the card it brought: {', '.join(wrong)}")
        return {"model": name, **brought}

    return publish(name, settings, fill, tell=tell)


def folder(name: str, settings: Settings) -> Path:
    """Where a model's versions are: where its entry in the config says, else the folder of its name."""
    entry = config.load(settings.config).model(name)
    return settings.store / name if entry is None else store.local_path(entry.base_path, settings.store)


def versions(name: str, settings: Settings) -> tuple[int, ...]:
    """The whole versions of a model."""
    place = folder(name, settings)
    return tuple(v for v in store.versions(place) if store.is_complete(store.version_path(place, v)))


def _copy(source: Path, target: Path) -> None:
    """Contents alone: modes as private as a temporary folder's would lock the server out."""
    for path in sorted(source.rglob("*")):
        to = target / path.relative_to(source)
        if path.is_dir():
            to.mkdir()
        else:
            shutil.copyfile(path, to)
