"""The verbs that train nothing: publish, list, show, verify, reload, promote, rollback, gc,
data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from headrace.protocol import version_policy
from headrace.store import folders, model_list
from trainer import publish, zoo
from trainer.data import archive
from trainer.data.archive import Archive
from trainer.entry import Entry
from trainer.errors import Broken, NotAvailable, Refused, Usage
from trainer.exports import card, gate
from trainer.publish import Published
from trainer.settings import Settings
from trainer.store import keeping, live, reload, shelf, versions


def add(verbs: Any) -> None:
    """Put these verbs beside train and ensure."""
    verb = verbs.add_parser("publish", help="publish a SavedModel, or a model that Keras saved")
    verb.add_argument("name", metavar="NAME", help="the model it is a version of")
    verb.add_argument(
        "folder",
        metavar="PATH",
        type=Path,
        help="the folder with saved_model.pb, or a .keras or .h5 file",
    )
    verb.add_argument(
        "--force", action="store_true", help="also when the gate refuses it; its card says so"
    )
    verb.set_defaults(run=_publish)

    verb = verbs.add_parser(
        "list", help="models: versions in the store, what is served, what each needs, its figure"
    )
    verb.set_defaults(run=_list)

    for name, run, told in (
        ("show", _show, "a version's card: data, figures, signatures, checks"),
        ("verify", _verify, "put a version through the gate's checks again"),
    ):
        verb = verbs.add_parser(name, help=told)
        verb.add_argument("name", metavar="NAME", help="the model")
        verb.add_argument(
            "version", metavar="VERSION", type=int, nargs="?", help="default: the live one"
        )
        verb.set_defaults(run=run)

    verb = verbs.add_parser(
        "reload", help="make a change of the list of models live, and wait until it is"
    )
    verb.add_argument(
        "--all-folders", action="store_true", help="the servers run here: see base paths as they do"
    )
    verb.set_defaults(run=_reload)

    verb = verbs.add_parser(
        "promote", help="make the newest version live and follow new ones, or pin VERSION"
    )
    verb.add_argument("name", metavar="NAME", help="the model")
    verb.add_argument("version", metavar="VERSION", type=int, nargs="?", help="pin this one")
    verb.set_defaults(run=_promote)

    verb = verbs.add_parser(
        "rollback", help="pin the version that was live before; publishes then wait for promote"
    )
    verb.add_argument("name", metavar="NAME", help="the model")
    verb.add_argument(
        "version", metavar="VERSION", type=int, nargs="?", help="pin this one instead"
    )
    verb.set_defaults(run=_rollback)

    verb = verbs.add_parser("gc", help="remove old versions, never one that is live or has a label")
    verb.add_argument(
        "names", metavar="NAME", nargs="*", help="models (default: all in the list of models)"
    )
    verb.add_argument(
        "--keep",
        type=_at_least_1,
        default=3,
        help="versions to keep of each, newest first (default 3)",
    )
    verb.add_argument(
        "--dry-run", action="store_true", help="say what would be removed, and remove nothing"
    )
    verb.set_defaults(run=_gc)

    verb = verbs.add_parser("data", help="the archives the models learn from: list, fetch, verify")
    verb.add_argument(
        "what",
        choices=("list", "fetch", "verify"),
        help="say, fetch into the cache, check the cache",
    )
    verb.add_argument("names", metavar="NAME", nargs="*", help="models (default: the whole zoo)")
    verb.set_defaults(run=_data)


def tell_published(done: Published, settings: Settings) -> None:
    _tell(f"{done.name} version {done.version} published in {done.path}: {card.line(done.card)}")
    if done.card.get("forced"):
        _tell(f"{done.name} version {done.version} was forced: {'; '.join(done.card['forced'])}")
    if done.live.removed:
        _tell(f"no longer served, not in the list of models: {', '.join(done.live.removed)}")
    if done.name not in done.live.served + done.live.waiting:
        _tell(f"{done.name} is not live: add it to {settings.config}")
    elif done.version not in done.serves:
        pinned = ", ".join(map(str, done.serves)) or "other versions"
        _tell(
            f"{done.name} is not live: {settings.config} pins it to {pinned}; "
            f"`promote {done.name}` makes version {done.version} live"
        )


def _publish(arguments: argparse.Namespace, settings: Settings) -> int:
    done = publish.publish_ready(
        arguments.name, arguments.folder, settings, tell=_tell, force=arguments.force
    )
    tell_published(done, settings)
    return 0


def _list(arguments: argparse.Namespace, settings: Settings) -> int:
    """What is served is what the gateway says, where it answers; else what the list of models asks
    for."""
    models = {model.name: model for model in model_list.load(settings.config).models}
    running = live.ask_all(settings.gateway)
    rows = [("MODEL", "VERSIONS", "SERVES", "NEEDS", "LATEST")]
    for name in sorted({*zoo.names(), *models}):
        present = shelf.versions(name, settings)
        needs, amiss = _needs(name)
        latest = amiss or (
            card.line(shelf.card_of(name, present[-1], settings)) if present else "-"
        )
        serves = _serves(models.get(name), present, running.get(name))
        rows.append((name, " ".join(map(str, present)) or "none", serves, needs, latest))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        _tell(
            "  ".join(
                [*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]]
            )
        )
    for name in sorted(models):
        if name in running and running[name].trouble:
            _tell(f"{name}: {running[name].trouble}")
    return 0


def _needs(name: str) -> tuple[str, str]:
    """The archives it learns from, and what is amiss with its file."""
    if name not in zoo.names():
        return "-", ""
    try:
        return ", ".join(each.title for each in zoo.find(name).data) or "nothing", ""
    except Broken as error:
        return "?", error.message


def _serves(
    model: model_list.ModelConfig | None, present: tuple[int, ...], running: live.Served | None
) -> str:
    """2(pinned,stable), -: the versions that answer, with their labels."""
    if model is None:
        return "-"
    versions = sorted(running.available) if running else shelf.served(model, present)
    told = []
    for version in versions:
        notes = ["pinned"] if isinstance(model.policy, version_policy.Specific) else []
        notes += [label for label, at in model.labels.items() if at == version]
        told.append(f"{version}({','.join(notes)})" if notes else str(version))
    return " ".join(told) or "-"


def _show(arguments: argparse.Namespace, settings: Settings) -> int:
    version, place = _version(arguments, settings)
    made = card.read(place)
    serves = shelf.served(
        model_list.load(settings.config).model(arguments.name),
        shelf.versions(arguments.name, settings),
    )
    _tell(
        f"{arguments.name} version {version}{', live' if version in serves else ''}: "
        f"{card.line(made)}"
    )
    for title, told in card.lines(made):
        _tell(f"  {title:<10} {told}")
    _tell(f"  {'files':<10} {len(card.checksums(place))} in {place}")
    return 0


def _verify(arguments: argparse.Namespace, settings: Settings) -> int:
    version, place = _version(arguments, settings)
    checks = gate.check(place)
    for check in checks:
        _tell(check.line)
    if refusing := [check for check in checks if check.refuses]:
        told = "; ".join(f"{check.name}: {check.told}" for check in refusing)
        raise Refused(f"{arguments.name} version {version} does not pass: {told}")
    _tell(f"{arguments.name} version {version} passes")
    return 0


def _version(arguments: argparse.Namespace, settings: Settings) -> tuple[int, Path]:
    name, place = arguments.name, shelf.folder(arguments.name, settings)
    there = folders.versions(place)
    version = (
        arguments.version if arguments.version is not None else shelf.live_version(name, settings)
    )
    if version is None:
        raise Usage(f"{name} has no version that is served")
    if version not in there:
        raise Usage(
            f"{name} has no version {version}; there are {', '.join(map(str, there)) or 'none'}"
        )
    return version, folders.version_path(place, version)


def _reload(arguments: argparse.Namespace, settings: Settings) -> int:
    reload.reload(settings, all_folders=arguments.all_folders, tell=_tell)
    return 0


def _promote(arguments: argparse.Namespace, settings: Settings) -> int:
    versions.promote(arguments.name, arguments.version, settings, tell=_tell)
    return 0


def _rollback(arguments: argparse.Namespace, settings: Settings) -> int:
    versions.rollback(arguments.name, arguments.version, settings, tell=_tell)
    return 0


def _gc(arguments: argparse.Namespace, settings: Settings) -> int:
    listed = [model.name for model in model_list.load(settings.config).models]
    for name in arguments.names or listed:
        if name not in listed and not shelf.versions(name, settings):
            raise Usage(f"there is no model {name!r}; there are {', '.join(listed)}")
        keeping.collect(name, settings, keep=arguments.keep, dry=arguments.dry_run, tell=_tell)
    return 0


def _data(arguments: argparse.Namespace, settings: Settings) -> int:
    """Every archive is looked at, also after one that is not to be had; then exit code 4 says that
    there was one."""
    cache, codes = settings.archives, []
    entries = []
    names = arguments.names or zoo.names()
    zoo.check(names)
    for name in names:
        try:
            entries.append(zoo.find(name))
        except Broken as error:
            _tell(f"{'FAIL':<9} {error.message}")
            codes.append(error.exit_code)
    for each, users in _archives(entries).items():
        told = f"{each.title} ({each.file}) for {', '.join(users)}"
        if arguments.what == "list":
            state = "kept" if (cache / each.file).is_file() else "not here"
            _tell(f"{state:<9} {told}; {each.kind}, sha256 {each.sha256[:12]}; {each.licence}")
            continue
        try:
            if arguments.what == "fetch":
                archive.fetch(each, cache)
            elif not archive.is_kept(each, cache):
                damaged = (
                    "its sha256 is not the pinned one"
                    if (cache / each.file).is_file()
                    else "it is not here"
                )
                raise NotAvailable(f"{damaged}; `data fetch` brings it")
            _tell(f"{'ok':<9} {told}")
        except NotAvailable as error:
            _tell(f"{'FAIL':<9} {told}: {error.message}")
            codes.append(error.exit_code)
    return next(iter(codes), 0)


def _archives(entries: list[Entry]) -> dict[Archive, list[str]]:
    """Each file once, whatever members are read from it, with the models that read it."""
    files: dict[str, tuple[Archive, list[str]]] = {}
    for entry in entries:
        for each in (*entry.data, *entry.better):
            users = files.setdefault(each.file, (each, []))[1]
            if entry.name not in users:
                users.append(entry.name)
    return dict(files.values())


def _at_least_1(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _tell(line: str) -> None:
    print(line, flush=True)
