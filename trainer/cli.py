"""`python -m trainer`: train and ensure, and the verbs of verbs.py. TensorFlow is imported to
train, not before.

Exit codes: 0 done, 1 failed, 2 a name or setting that cannot be meant, 3 refused by the gate, 4
data or tool not there.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from headrace.protocol.errors import ConfigError, HeadraceError, PermissionDenied
from headrace.store import folders, model_list
from trainer import disk, verbs, zoo
from trainer.errors import NotAvailable, TrainerError, Usage
from trainer.settings import Settings, from_environment
from trainer.store import owner, shelf
from trainer.training import Wish, train


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
        told = _sentence(error, settings)
        if not told:
            raise
        print(f"error: {told}", file=sys.stderr)
        return _exit_code(error)


def _train(arguments: argparse.Namespace, settings: Settings) -> int:
    """All that was asked for and can be had; the first failure names the exit code."""
    if bool(arguments.names) == arguments.all:
        raise Usage("name the models to train, or say --all")
    names = tuple(dict.fromkeys(arguments.names)) or zoo.names()
    zoo.check(names)
    # A broken one is told now, not after the training.
    model_list.load(settings.config)
    wish = Wish(
        quick=arguments.quick,
        seed=arguments.seed,
        seeds=arguments.seeds,
        fresh=arguments.fresh,
        force=arguments.force,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
    )
    codes = [_train_one(name, settings, wish) for name in names]
    return next(filter(None, codes), 0)


def _train_one(name: str, settings: Settings, wish: Wish) -> int:
    """Whatever goes wrong with one model is told, and the others go on; a fault of the zoo file's
    with its stack."""
    try:
        entry = zoo.find(name)
        data = ", ".join(archive.title for archive in entry.data) or "no data needed"
        _tell(f"{name}: {entry.summary}; {data}")
        verbs.tell_published(train(entry, settings, wish, tell=_tell), settings)
    except BrokenPipeError:
        # Nobody reads what is told.
        raise
    except Exception as error:
        told = _sentence(error, settings)
        if not told:
            traceback.print_exc()
            told = f"{type(error).__name__}: {error}"
        where = "" if told.startswith(name) else f"{name}: "
        print(f"error: {where}{told}", file=sys.stderr)
        return _exit_code(error)
    return 0


def _ensure(arguments: argparse.Namespace, settings: Settings) -> int:
    """0 as soon as one configured model has a version: the others are named, and the stack stands
    without them."""
    names = [model.name for model in model_list.load(settings.config).models]
    if not names:
        raise Usage(f"{settings.config} names no model")
    codes = []
    for name in names:
        if present := shelf.versions(name, settings):
            _tell(f"{name}: version {present[-1]} is there")
        elif name in zoo.names():
            codes.append(_train_one(name, settings, Wish(quick=True, seed=arguments.seed)))
        else:
            _tell(
                f"{name}: no version, and not in the zoo; export it, then: python -m trainer "
                f"publish {name} FOLDER"
            )
            codes.append(NotAvailable.exit_code)
    live = folders.render_live(settings.config, settings.store)
    if live.removed:
        _tell(f"no longer served, not in the list of models: {', '.join(live.removed)}")
    missing = [name for name in names if not shelf.versions(name, settings)]
    if missing:
        _tell(f"still without a version: {', '.join(missing)}")
    return 0 if len(missing) < len(names) else next(filter(None, codes), 1)


def _tell(line: str) -> None:
    print(line, flush=True)


def _sentence(error: Exception, settings: Settings) -> str:
    """For the person at the prompt; "" for an error that nobody expected."""
    match error:
        case PermissionDenied():
            return f"{error.message}; {owner.hint(settings.store)}"
        case HeadraceError():
            return error.message
    if told := disk.full(error, settings.store, settings.cache):
        return told
    match error:
        case PermissionError():
            place = Path(error.filename or settings.store)
            return f"{place}: {error.strerror}; {owner.hint(place)}"
        case OSError():
            return f"{error.filename or 'the store'}: {error.strerror or error}"
    return ""


def _exit_code(error: Exception) -> int:
    if isinstance(error, TrainerError):
        return error.exit_code
    return Usage.exit_code if isinstance(error, ConfigError) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description=(
            "Train models of the zoo, publish them into the store, and say which version is live."
        ),
        epilog=(
            "HEADRACE_STORE (models), HEADRACE_CONFIG (multimodel.config) and HEADRACE_CACHE "
            "(.cache) say where."
        ),
    )
    parsers = parser.add_subparsers(required=True, metavar="VERB")

    verb = parsers.add_parser("train", help="train models and publish a new version of each")
    verb.add_argument("names", nargs="*", metavar="NAME", help="a model of the zoo; see list")
    verb.add_argument("--all", action="store_true", help="every model of the zoo")
    verb.add_argument(
        "--quick", action="store_true", help="the zoo file's short settings; the card says so"
    )
    verb.add_argument(
        "--seed", type=_at_least_0, default=0, help="the same seed gives the same model (default 0)"
    )
    verb.add_argument(
        "--seeds",
        type=_at_least_1,
        default=1,
        help="so many from --seed on; the median is published",
    )
    verb.add_argument(
        "--fresh",
        action="store_true",
        help="from the first epoch, also where a killed one left off",
    )
    verb.add_argument(
        "--force", action="store_true", help="publish what the gate refuses; the card says so"
    )
    verb.add_argument("--epochs", type=_at_least_1, help="passes over the data")
    verb.add_argument("--batch-size", type=_at_least_1, help="rows a step")
    verb.add_argument("--learning-rate", type=_above_0, help="of the optimizer, at its highest")
    verb.set_defaults(run=_train)

    verb = parsers.add_parser(
        "ensure", help="train what the config names and has no version yet, with quick settings"
    )
    verb.add_argument("--seed", type=_at_least_0, default=0, help="see train")
    verb.set_defaults(run=_ensure)

    verbs.add(parsers)
    return parser


def _at_least_0(text: str) -> int:
    return _number(text, least=0)


def _at_least_1(text: str) -> int:
    return _number(text, least=1)


def _number(text: str, *, least: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() else -1
    # Seeds and counts are int32 on TensorFlow's side.
    if not least <= number < 1 << 31:
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
