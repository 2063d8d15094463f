"""The command line: headrace serve | predict | status | models | check-config | render | doctor.

Each command is one module with its arguments and what it does. It imports the libraries it needs
only when it runs, so that ``headrace --help`` is quick.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

_Run = Callable[[argparse.Namespace], int]

_EXAMPLES = """examples:
  headrace serve my_model --rest_api_port=8501
  headrace serve --model_config_file=models/multimodel.config --models_root=models
  headrace predict half_plus_two --data '[1.0, 2.0, 5.0]'
  headrace models
  headrace check-config multimodel.config
"""
_SERVE_HELP = (
    "run a server for the models at a path, or one configured by TensorFlow Serving's flags "
    "(`headrace serve --help`)"
)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["serve"]:
        # The flags are TensorFlow Serving's and have a parser of their own.
        return _serve(arguments[1:])
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.print_help()
        return 2
    return _run(parsed)


def _parser() -> argparse.ArgumentParser:
    from headrace.cli import check_config, doctor, models, predict, render, status

    parser = argparse.ArgumentParser(
        prog="headrace",
        description="Serve TensorFlow models, and call the servers that do.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    commands.add_parser("serve", help=_SERVE_HELP)
    for command in (predict, status, models, check_config, render, doctor):
        command.add(commands)
    return parser


def _run(parsed: argparse.Namespace) -> int:
    from headrace.protocol.errors import HeadraceError

    run: _Run = parsed.run
    try:
        return run(parsed)
    except HeadraceError as error:
        print(f"headrace: {error.message}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(f"  {note}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of `headrace models | head` has closed the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _serve(argv: list[str]) -> int:
    try:
        from headrace import server

        return server.main(argv)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("headrace"):
            raise
        advice = "`pip install '.[server]'` in a checkout of Headrace installs what serving needs"
        print(f"headrace: {error}; {advice}", file=sys.stderr)
        return 1
