"""headrace doctor: find what is missing or wrong on this machine, in the store and the config."""

from __future__ import annotations

import argparse
import os

from headrace.cli import arguments
from headrace.cli.arguments import Commands

_EPILOG = """example:
  HEADRACE_HTTP_PORT=9000 headrace doctor

If HEADRACE_URL is set, the server at that address is checked too."""


def add(commands: Commands) -> None:
    parser = arguments.add_command(
        commands,
        "doctor",
        run,
        help="check this machine, the store and the config; exit code 1 if there is a problem",
        epilog=_EPILOG,
    )
    arguments.add_config(parser)
    arguments.add_store(parser)


def run(parsed: argparse.Namespace) -> int:
    from headrace import doctor

    findings = doctor.examine(parsed.config, parsed.store, os.environ)
    for finding in findings:
        print(finding)
    return 1 if any(finding.is_problem for finding in findings) else 0
