"""`python -m trainer`: train, ensure, publish, list. TensorFlow is imported when something is trained, not before.

Exit codes: 0 done, 1 failed, 2 a name or setting that cannot be meant, 3 refused by the gate, 4 data or tool not there.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from headrace.wire import config, store
from headrace.wire.errors import ConfigError, HeadraceError
from trainer import card, publish, zoo
from trainer.entry import Entry
from trainer.errors import NotAvailable, TrainerError, Usage
from trainer.publish import Published
from trainer.settings import Settings, from_environment
from trainer.training import Wish, train


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    settings = from_environment(os.environ)
    try:
        code: int = arguments.run(arguments, settings)
        return code
    except HeadraceError as error:
        return _failed(error)
    except OSError as error:
        print(f"error: {error.filename or 'the store'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _train(arguments: argparse.Namespace, settings: Settings) -> int:
    """All that was asked for and can be had; the first failure names the exit code."""
    entries = [zoo.find(name) for name in dict.fromkeys(arguments.names)]
    config.load(settings.config)  # a broken one is told now, not after the training
    wish = Wish(
        quick=arguments.quick,
        seed=arguments.seed,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
    )
    codes = [_train_one(entry, settings, wish) for entry in entries]
    return next(filter(None, codes), 0)


def _train_one(entry: Entry, settings: Settings, wish: Wish) -> int:
    data = ", ".join(archive.title for archive in entry.data) or "no data needed"
    _tell(f"{entry.name}: {entry.summary}; {data}")
    try:
        _tell_published(train(entry, settings, wish, tell=_tell), settings)
    except HeadraceError as error:
        return _failed(error, name=entry.name)
    return 0


def _ensure(arguments: argparse.Namespace, settings: Settings) -> int:
    """0 as soon as one configured model has a version: the others are named, and the stack stands without them."""
    names = [model.name for model in config.load(settings.config).models]
    if not names:
        raise Usage(f"{settings.config} names no model")
    codes = []
    for name in names:
        if present := publish.versions(name, settings):
            _tell(f"{name}: version {present[-1]} is there")
        elif name in zoo.names():
            codes.append(_train_one(zoo.find(name), settings, Wish(quick=True, seed=arguments.seed)))
        else:
            _tell(f"{name}: no version, and not in the zoo; export it, then: python -m trainer publish {name} FOLDER")
            codes.append(NotAvailable.exit_code)
    store.render_live(settings.config, settings.store)
    missing = [name for name in names if not publish.versions(name, settings)]
    if missing:
        _tell(f"still without a version: {', '.join(missing)}")
    return 0 if len(missing) < len(names) else next(filter(None, codes), 1)


def _publish(arguments: argparse.Namespace, settings: Settings) -> int:
    _tell_published(publish.publish_ready(arguments.name, arguments.folder, settings, tell=_tell), settings)
    return 0


def _list(arguments: argparse.Namespace, settings: Settings) -> int:
    rows = [("MODEL", "VERSIONS", "NEEDS", "LATEST")]
    for name in zoo.names():
        needs = ", ".join(archive.title for archive in zoo.find(name).data) or "nothing"
        present = publish.versions(name, settings)
        place = publish.folder(name, settings)
        latest = card.line(card.read(store.version_path(place, present[-1]))) if present else "-"
        rows.append((name, " ".join(map(str, present)) or "none", needs, latest))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]))
    return 0


def _tell_published(done: Published, settings: Settings) -> None:
    _tell(f"{done.name} version {done.version} published in {done.path}: {card.line(done.card)}")
    if done.name in done.live.waiting:
        _tell(f"{done.name} is not live: {settings.config} pins it to other versions")
    elif done.name not in done.live.served:
        _tell(f"{done.name} is not live: add it to {settings.config}")


def _tell(line: str) -> None:
    print(line, flush=True)


def _failed(error: HeadraceError, *, name: str = "") -> int:
    where = f"{name}: " if name and not error.message.startswith(name) else ""
    print(f"error: {where}{error.message}", file=sys.stderr)
    if isinstance(error, TrainerError):
        return error.exit_code
    return Usage.exit_code if isinstance(error, ConfigError) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Train models of the zoo and publish them into the store.",
        epilog="HEADRACE_STORE (models), HEADRACE_CONFIG (multimodel.config) and HEADRACE_CACHE (.cache) say where.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("train", help="train models and publish a new version of each")
    verb.add_argument("names", nargs="+", metavar="NAME", help="a model of the zoo; see list")
    verb.add_argument("--quick", action="store_true", help="the zoo file's short settings; the card says so")
    verb.add_argument("--seed", type=_at_least_0, default=0, help="the same seed gives the same model (default 0)")
    verb.add_argument("--epochs", type=_at_least_1, help="passes over the data")
    verb.add_argument("--batch-size", type=_at_least_1, help="rows a step")
    verb.add_argument("--learning-rate", type=_above_0, help="of the optimizer, at its highest")
    verb.set_defaults(run=_train)

    verb = verbs.add_parser("ensure", help="train what the config names and has no version yet, with quick settings")
    verb.add_argument("--seed", type=_at_least_0, default=0, help="see train")
    verb.set_defaults(run=_ensure)

    verb = verbs.add_parser("publish", help="publish a SavedModel that is ready; needs no TensorFlow import")
    verb.add_argument("name", metavar="NAME", help="the model it is a version of")
    verb.add_argument("folder", metavar="FOLDER", type=Path, help="the folder with saved_model.pb")
    verb.set_defaults(run=_publish)

    verb = verbs.add_parser("list", help="the zoo: versions in the store, what each model needs, its latest figure")
    verb.set_defaults(run=_list)
    return parser


def _at_least_0(text: str) -> int:
    return _number(text, least=0)


def _at_least_1(text: str) -> int:
    return _number(text, least=1)


def _number(text: str, *, least: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() else -1
    if not least <= number < 1 << 31:  # seeds and counts are int32 on TensorFlow's side
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return number


def _above_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value
