"""What commands share: how a command is added to the parser, and their common options."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

DEFAULT_TIMEOUT_S = 30.0

_URL_HELP = (
    "http://, https://, grpc:// or grpcs:// address of a server; default: HEADRACE_URL, else "
    "http://127.0.0.1:HEADRACE_HTTP_PORT, else port 8000"
)


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    help: str,
    epilog: str,
) -> argparse.ArgumentParser:
    """``run`` gets the parsed arguments and returns the exit code."""
    parser = commands.add_parser(
        name,
        help=help,
        description=help,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help=_URL_HELP)
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_TIMEOUT_S,
        help=f"time limit of a call; default: {DEFAULT_TIMEOUT_S:g}",
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=Path(os.environ.get("HEADRACE_CONFIG") or "multimodel.config"),
        help="the model config you edit; default: HEADRACE_CONFIG, else multimodel.config",
    )


def add_store(parser: argparse.ArgumentParser, what: str = "the folder of models") -> None:
    parser.add_argument(
        "--store",
        metavar="FOLDER",
        type=Path,
        default=Path(os.environ.get("HEADRACE_STORE") or "models"),
        help=f"{what}; default: HEADRACE_STORE, else models",
    )
