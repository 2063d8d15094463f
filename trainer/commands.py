"""The commands that train nothing: publish, list, show, verify, reload, promote, rollback, gc,
data."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace.protocol import version_policy
from headrace.store import card, folders, model_list
from headrace.store.model_list import ModelConfig
from trainer import publish, zoo
from trainer.argument_types import at_least_1
from trainer.data import archive
from trainer.data.archive import Archive
from trainer.entry import Entry
from trainer.errors import Broken, NotAvailable, Refused, Usage
from trainer.exports import card_text, gate
from trainer.publish import Published
from trainer.settings import Settings
from trainer.store import gateway_status, gc, promotion, reload, versions
from trainer.store.gateway_status import ModelStatus


def add(parsers: Any) -> None:
    """Add these commands beside train and ensure."""
    _add_publish(parsers)
    _add(parsers, "list", _list, "every model: its versions, what is served, its data, its figure")
    show = _add(parsers, "show", _show, "print a version's card: data, figures, signatures, checks")
    _add_version(show, "default: the live one")
    verify = _add(parsers, "verify", _verify, "run the gate's checks on a version again")
    _add_version(verify, "default: the live one")
    _add_reload(parsers)
    promote = _add(
        parsers,
        "promote",
        _promote,
        "make the newest version live and follow new ones, or pin VERSION",
    )
    _add_version(promote, "pin this one")
    rollback = _add(
        parsers,
        "rollback",
        _rollback,
        "pin the version that was live before; new versions then wait for promote",
    )
    _add_version(rollback, "pin this one instead")
    _add_gc(parsers)
    _add_data(parsers)


def _add(parsers: Any, name: str, run: Any, help_text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = parsers.add_parser(name, help=help_text)
    command.set_defaults(run=run)
    return command


def _add_version(command: argparse.ArgumentParser, help_text: str) -> None:
    command.add_argument("name", metavar="NAME", help="the model")
    command.add_argument(
        "version",
        metavar="VERSION",
        type=int,
        nargs="?",
        help=help_text,
    )


def _add_publish(parsers: Any) -> None:
    command = _add(
        parsers,
        "publish",
        _publish,
        "publish a SavedModel, or a model that Keras saved",
    )
    command.add_argument("name", metavar="NAME", help="the model to add a version to")
    command.add_argument(
        "export",
        metavar="PATH",
        type=Path,
        help="the folder with saved_model.pb, or a .keras or .h5 file",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="publish even if the gate refuses; the card says so",
    )


def _add_reload(parsers: Any) -> None:
    command = _add(
        parsers,
        "reload",
        _reload,
        "make changes in the list of models live, and wait until they are",
    )
    command.add_argument(
        "--all-folders",
        action="store_true",
        help="also check base paths outside the store; for servers on this machine",
    )


def _add_gc(parsers: Any) -> None:
    command = _add(parsers, "gc", _gc, "remove old versions, never one that is live or has a label")
    command.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="models (default: all in the list of models)",
    )
    command.add_argument(
        "--keep",
        type=at_least_1,
        default=3,
        help="versions of each model to keep, newest first (default: 3)",
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be removed, and remove nothing",
    )


def _add_data(parsers: Any) -> None:
    command = _add(parsers, "data", _data, "the archives that the models learn from")
    command.add_argument(
        "action",
        choices=("list", "fetch", "verify"),
        help="list them, fetch them into the cache, or check the cache",
    )
    command.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="models (default: the whole zoo)",
    )


def tell_published(published: Published, settings: Settings) -> None:
    name = published.name
    version = published.version
    live = published.live

    figures = card_text.line(published.card)
    _tell(f"{name} version {version} published in {published.path}: {figures}")

    forced = published.card.get("forced")
    if forced:
        reasons = "; ".join(forced)
        _tell(f"{name} version {version} was forced: {reasons}")
    if live.removed:
        removed = ", ".join(live.removed)
        _tell(f"no longer served, not in the list of models: {removed}")

    if name not in live.served + live.waiting:
        _tell(f"{name} is not live: add it to {settings.config}")
    elif version not in published.serves:
        pinned = ", ".join(map(str, published.serves)) or "other versions"
        _tell(
            f"{name} is not live: {settings.config} pins it to {pinned}; "
            f"`promote {name}` makes version {version} live"
        )


def _publish(arguments: argparse.Namespace, settings: Settings) -> int:
    published = publish.publish_export(
        arguments.name,
        arguments.export,
        settings,
        tell=_tell,
        force=arguments.force,
    )
    tell_published(published, settings)
    return 0


def _list(arguments: argparse.Namespace, settings: Settings) -> int:
    """What is served is what the gateway reports; if none answers, what the list asks for."""
    config = model_list.load(settings.config)
    listed = {model.name: model for model in config.models}
    statuses = gateway_status.read(settings.gateway)

    rows = [("MODEL", "VERSIONS", "SERVES", "NEEDS", "LATEST")]
    for name in sorted({*zoo.names(), *listed}):
        row = _row(
            name,
            listed.get(name),
            statuses.get(name),
            settings,
        )
        rows.append(row)
    for line in _aligned(rows):
        _tell(line)

    for name in sorted(listed):
        status = statuses.get(name)
        if status is not None and status.trouble:
            _tell(f"{name}: {status.trouble}")
    return 0


def _aligned(rows: list[tuple[str, str, str, str, str]]) -> Iterator[str]:
    """The rows as lines, all columns but the last as wide as their longest cell."""
    widths = []
    for column in zip(*rows, strict=True):
        widths.append(max(map(len, column)))
    for row in rows:
        *cells, last = row
        padded = []
        for cell, width in zip(cells, widths, strict=False):
            padded.append(cell.ljust(width))
        yield "  ".join([*padded, last])


def _row(
    name: str, model: ModelConfig | None, status: ModelStatus | None, settings: Settings
) -> tuple[str, str, str, str, str]:
    present = versions.complete(name, settings)
    numbers = " ".join(map(str, present)) or "none"
    serves = _serves(model, present, status)
    latest = "-"
    if present:
        version_card = versions.read_card(name, present[-1], settings)
        latest = card_text.line(version_card)
    needs = "-"
    if name in zoo.names():
        try:
            entry = zoo.find(name)
            needs = ", ".join(each.title for each in entry.data) or "nothing"
        except Broken as error:
            needs = "?"
            latest = error.message
    return name, numbers, serves, needs, latest


def _serves(model: ModelConfig | None, present: tuple[int, ...], status: ModelStatus | None) -> str:
    """The versions that answer, with their labels: 2(pinned,stable), or -."""
    if model is None:
        return "-"
    numbers = version_policy.select(model.policy, present)
    if status is not None:
        numbers = tuple(sorted(status.available))
    is_pinned = isinstance(model.policy, version_policy.Specific)
    texts = []
    for number in numbers:
        notes = []
        if is_pinned:
            notes.append("pinned")
        for label, version in model.labels.items():
            if version == number:
                notes.append(label)
        text = str(number)
        if notes:
            text += f"({','.join(notes)})"
        texts.append(text)
    return " ".join(texts) or "-"


def _show(arguments: argparse.Namespace, settings: Settings) -> int:
    version, path = _version(arguments, settings)
    version_card = card.read(path)
    title = f"{arguments.name} version {version}"
    if version in versions.served(arguments.name, settings):
        title += ", live"
    _tell(f"{title}: {card_text.line(version_card)}")

    pairs = card_text.lines(version_card)
    file_count = len(card.checksums(path))
    pairs.append(("files", f"{file_count} in {path}"))
    for name, text in pairs:
        _tell(f"  {name:<10} {text}")
    return 0


def _verify(arguments: argparse.Namespace, settings: Settings) -> int:
    version, path = _version(arguments, settings)
    checks = gate.check(path)
    for check in checks:
        _tell(check.line)
    if any(check.refuses for check in checks):
        refusal = gate.refusal(checks)
        raise Refused(f"{arguments.name} version {version} does not pass: {refusal}")
    _tell(f"{arguments.name} version {version} passes")
    return 0


def _version(arguments: argparse.Namespace, settings: Settings) -> tuple[int, Path]:
    """The version that the arguments name, or the live one, and its folder."""
    name = arguments.name
    version = arguments.version
    folder = versions.folder(name, settings)
    present = folders.versions(folder)
    if version is None:
        version = versions.live(name, settings)
    if version is None:
        raise Usage(f"{name} has no version that is served")
    if version not in present:
        numbers = ", ".join(map(str, present)) or "none"
        raise Usage(f"{name} has no version {version}; there are {numbers}")
    return version, folders.version_path(folder, version)


def _reload(arguments: argparse.Namespace, settings: Settings) -> int:
    reload.reload(settings, all_folders=arguments.all_folders, tell=_tell)
    return 0


def _promote(arguments: argparse.Namespace, settings: Settings) -> int:
    promotion.promote(arguments.name, arguments.version, settings, tell=_tell)
    return 0


def _rollback(arguments: argparse.Namespace, settings: Settings) -> int:
    promotion.rollback(arguments.name, arguments.version, settings, tell=_tell)
    return 0


def _gc(arguments: argparse.Namespace, settings: Settings) -> int:
    config = model_list.load(settings.config)
    listed = [model.name for model in config.models]
    for name in arguments.names or listed:
        if name not in listed and not versions.complete(name, settings):
            names = ", ".join(listed)
            raise Usage(f"there is no model {name!r}; there are {names}")
        gc.collect(
            name,
            settings,
            keep=arguments.keep,
            dry_run=arguments.dry_run,
            tell=_tell,
        )
    return 0


def _data(arguments: argparse.Namespace, settings: Settings) -> int:
    """Go through every archive, also after a failure, whose exit code is then returned."""
    names = arguments.names or zoo.names()
    zoo.check(names)
    code = 0
    entries = []
    for name in names:
        try:
            entries.append(zoo.find(name))
        except Broken as error:
            _tell_state("FAIL", error.message)
            code = code or error.exit_code

    archives = _archives(entries)
    for each, users in archives.items():
        models = ", ".join(users)
        title = f"{each.title} ({each.file}) for {models}"
        try:
            state, details = _data_state(each, arguments.action, settings.archives)
            _tell_state(state, f"{title}{details}")
        except NotAvailable as error:
            _tell_state("FAIL", f"{title}: {error.message}")
            code = code or error.exit_code
    return code


def _tell_state(state: str, text: str) -> None:
    _tell(f"{state:<9} {text}")


def _data_state(each: Archive, action: str, cache: Path) -> tuple[str, str]:
    """The state of an archive after ``action``, and details. Raises NotAvailable."""
    is_there = (cache / each.file).is_file()
    if action == "list":
        details = f"; {each.kind}, sha256 {each.sha256[:12]}; {each.licence}"
        if is_there:
            return "kept", details
        return "not here", details
    if action == "fetch":
        archive.fetch(each, cache)
    elif not archive.is_cached(each, cache):
        damage = "it is not here"
        if is_there:
            damage = "its sha256 is not the pinned one"
        raise NotAvailable(f"{damage}; `data fetch` brings it")
    return "ok", ""


def _archives(entries: list[Entry]) -> dict[Archive, list[str]]:
    """Each file once, whatever members are read from it, with the models that read it."""
    by_file: dict[str, Archive] = {}
    users: dict[str, list[str]] = {}
    for entry in entries:
        for each in (*entry.data, *entry.full_data):
            by_file.setdefault(each.file, each)
            names = users.setdefault(each.file, [])
            if entry.name not in names:
                names.append(entry.name)
    return {by_file[file]: names for file, names in users.items()}


def _tell(line: str) -> None:
    print(line, flush=True)
