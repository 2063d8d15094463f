"""headrace predict: send one request and print the answer as JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from headrace.cli import arguments
from headrace.cli.arguments import Commands
from headrace.cli.connection import connected

_EPILOG = """examples:
  headrace predict half_plus_two --data '[1.0, 2.0, 5.0]'
  headrace predict linear_model --signature columns --data '{"weight": [3504.0], ...}'
  headrace predict mnist_cnn --file images.npy --url grpc://127.0.0.1:8001
  cat rows.json | headrace predict linear_model -

data: nested lists for a signature with one input, otherwise an object by input name;
{"b64": "..."} stands for bytes"""


def add(commands: Commands) -> None:
    parser = arguments.add_command(
        commands,
        "predict",
        run,
        help="send one request and print the answer as JSON",
        epilog=_EPILOG,
    )
    parser.add_argument("model", metavar="MODEL")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", metavar="JSON", help="the inputs as JSON")
    data.add_argument(
        "--file", metavar="FILE", type=Path, help="the inputs from a .json, .npy or .npz file"
    )
    data.add_argument(
        "stdin",
        nargs="?",
        choices=["-"],
        metavar="-",
        help="the inputs as JSON from standard input",
    )
    parser.add_argument("--signature", metavar="NAME", help="default: serving_default")
    parser.add_argument("--version", metavar="N", type=int, help="default: the latest")
    parser.add_argument("--label", metavar="LABEL", help="the version with this label")
    arguments.add_address(parser)


def run(parsed: argparse.Namespace) -> int:
    from headrace.cli import values

    inputs = _inputs(parsed)
    with connected(parsed) as server:
        outputs = server.predict(
            parsed.model,
            inputs,
            version=parsed.version,
            label=parsed.label,
            signature=parsed.signature,
        )
    print(values.to_json(outputs))
    return 0


def _inputs(parsed: argparse.Namespace) -> Any:
    from headrace.cli import values

    if parsed.file is not None:
        return values.read_file(parsed.file)
    if parsed.stdin:
        return values.read_json(sys.stdin.read(), source="standard input")
    return values.read_json(parsed.data, source="--data")
