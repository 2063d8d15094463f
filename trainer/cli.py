"""`python -m trainer`: train and ensure, and the commands of commands.py.

TensorFlow is imported only to train. Exit codes: 0 done, 1 failed, 2 unknown name or invalid
setting, 3 refused by the gate, 4 data or tool not available.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.protocol.errors import ConfigError, HeadraceError, PermissionDenied
from headrace.store import folders, model_list
from trainer import commands, disk, zoo
from trainer.argument_types import above_0, at_least_0, at_least_1
from trainer.errors import NotAvailable, TrainerError, Usage
from trainer.settings import Settings, from_environment
from trainer.store import permissions, versions
from trainer.training import TrainOptions, train


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    settings = Settings()
    try:
        settings = from_environment(os.environ)
        code: int = arguments.run(arguments, settings)
        return code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        message = _message(error, settings)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return _exit_code(error)


def _train(arguments: argparse.Namespace, settings: Settings) -> int:
    """Train every model that can be trained; the first failure gives the exit code."""
    if bool(arguments.names) == arguments.all:
        raise Usage("name the models to train, or say --all")
    names = tuple(dict.fromkeys(arguments.names)) or zoo.names()
    zoo.check(names)
    # A broken list is reported now, not after the training.
    model_list.load(settings.config)
    options = TrainOptions(
        quick=arguments.quick,
        seed=arguments.seed,
        seeds=arguments.seeds,
        fresh=arguments.fresh,
        force=arguments.force,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
    )
    codes = [_train_one(name, settings, options) for name in names]
    return _first_failure(codes, default=0)


def _train_one(name: str, settings: Settings, options: TrainOptions) -> int:
    """Report whatever goes wrong with one model, so that the others go on.

    An error in the zoo file itself is printed with its stack.
    """
    try:
        entry = zoo.find(name)
        titles = [archive.title for archive in entry.data]
        data = ", ".join(titles) or "no data needed"
        _tell(f"{name}: {entry.summary}; {data}")
        published = train(entry, settings, options, tell=_tell)
        commands.tell_published(published, settings)
    except BrokenPipeError:
        # Nobody reads the output any more.
        raise
    except Exception as error:
        message = _message(error, settings)
        if message is None:
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}"
        if not message.startswith(name):
            message = f"{name}: {message}"
        print(f"error: {message}", file=sys.stderr)
        return _exit_code(error)
    return 0


def _ensure(arguments: argparse.Namespace, settings: Settings) -> int:
    """0 if at least one listed model has a version: the stack starts without the others."""
    config = model_list.load(settings.config)
    names = [model.name for model in config.models]
    if not names:
        raise Usage(f"{settings.config} names no model")

    codes = [_ensure_one(name, arguments.seed, settings) for name in names]
    rendered = folders.render_live(settings.config, settings.store)
    if rendered.removed:
        removed = ", ".join(rendered.removed)
        _tell(f"no longer served, not in the list of models: {removed}")

    missing = []
    for name in names:
        if not versions.complete(name, settings):
            missing.append(name)
    if missing:
        without_version = ", ".join(missing)
        _tell(f"still without a version: {without_version}")
    if len(missing) < len(names):
        return 0
    return _first_failure(codes, default=1)


def _ensure_one(name: str, seed: int, settings: Settings) -> int:
    present = versions.complete(name, settings)
    if present:
        _tell(f"{name}: version {present[-1]} is there")
        return 0
    if name in zoo.names():
        options = TrainOptions(quick=True, seed=seed)
        return _train_one(name, settings, options)
    _tell(
        f"{name}: no version, and not in the zoo; export it, then: "
        f"python -m trainer publish {name} FOLDER"
    )
    return NotAvailable.exit_code


def _first_failure(codes: list[int], *, default: int) -> int:
    for code in codes:
        if code:
            return code
    return default


def _tell(line: str) -> None:
    print(line, flush=True)


def _message(error: Exception, settings: Settings) -> str | None:
    """For the person at the prompt; None for an error that is a bug."""
    if isinstance(error, PermissionDenied):
        return f"{error.message}; {permissions.hint(settings.store)}"
    if isinstance(error, HeadraceError):
        return error.message
    full_disk = disk.full(error, settings.store, settings.cache)
    if full_disk is not None:
        return full_disk
    if isinstance(error, PermissionError):
        path = Path(error.filename or settings.store)
        return f"{path}: {error.strerror}; {permissions.hint(path)}"
    if isinstance(error, OSError):
        place = error.filename or "the store"
        reason = error.strerror or error
        return f"{place}: {reason}"
    return None


def _exit_code(error: Exception) -> int:
    if isinstance(error, TrainerError):
        return error.exit_code
    if isinstance(error, ConfigError):
        return Usage.exit_code
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description=(
            "Train the models of the zoo, publish them into the store, and choose which version "
            "is live."
        ),
        epilog=(
            "The environment says where things are: HEADRACE_STORE (default: models), "
            "HEADRACE_CONFIG (multimodel.config) and HEADRACE_CACHE (.cache)."
        ),
    )
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(parsers)
    _add_ensure(parsers)
    commands.add(parsers)
    return parser


def _add_train(parsers: Any) -> None:
    train = parsers.add_parser("train", help="train models and publish a new version of each")
    train.set_defaults(run=_train)
    add = train.add_argument
    add("names", nargs="*", metavar="NAME", help="models of the zoo; `list` shows them")
    add("--all", action="store_true", help="train every model of the zoo")
    add("--quick", action="store_true", help="use the zoo file's short settings; the card says so")
    add(
        "--seed",
        type=at_least_0,
        default=0,
        help="the same seed gives the same model (default: 0)",
    )
    add(
        "--seeds",
        type=at_least_1,
        default=1,
        help="number of seeds to train, from --seed on; publishes the median model (default: 1)",
    )
    add("--fresh", action="store_true", help="start anew; do not resume a killed training")
    add("--force", action="store_true", help="publish even if the gate refuses; the card says so")
    add("--epochs", type=at_least_1, help="passes over the data")
    add("--batch-size", type=at_least_1, help="rows a training step")
    add("--learning-rate", type=above_0, help="the optimizer's highest learning rate")


def _add_ensure(parsers: Any) -> None:
    ensure = parsers.add_parser(
        "ensure", help="train every listed model that has no version yet, with quick settings"
    )
    ensure.set_defaults(run=_ensure)
    ensure.add_argument("--seed", type=at_least_0, default=0, help="as in train")
