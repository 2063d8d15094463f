"""headrace status: the versions of a model and their states."""

from __future__ import annotations

import argparse

from headrace.cli import arguments
from headrace.cli.arguments import Commands
from headrace.cli.connection import connected
from headrace.cli.output import print_fields

_EPILOG = """examples:
  headrace status mnist_cnn
  headrace status mnist_cnn --url grpc://127.0.0.1:8500"""


def add(commands: Commands) -> None:
    parser = arguments.add_command(
        commands,
        "status",
        run,
        help="print the versions of a model and their states; exit code 1 if none is AVAILABLE",
        epilog=_EPILOG,
    )
    parser.add_argument("model", metavar="MODEL")
    arguments.add_address(parser)


def run(parsed: argparse.Namespace) -> int:
    with connected(parsed) as server:
        versions = server.status(parsed.model)
    is_available = False
    for version in versions:
        error = ""
        if version.error_code != "OK":
            error = f"{version.error_code}: {version.error_message}"
        print_fields(parsed.model, f"version {version.version}", version.state, error)
        is_available = is_available or version.state == "AVAILABLE"
    return 0 if is_available else 1
