"""python -m gateway: run it, --check what it would run with, or print its --settings."""

from __future__ import annotations

import argparse
import os
import sys

from gateway import settings as settings_module
from gateway.settings import Settings
from headrace.protocol.errors import HeadraceError


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.settings:
        print(settings_module.reference(), end="")
        return 0
    try:
        settings = Settings.from_env(os.environ)
        if arguments.check:
            return _check(settings)
        _serve(settings)
    except HeadraceError as error:
        print(f"gateway: {error.message}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway",
        description=(
            "Checks predict calls against the live models and forwards them to the serving backend."
        ),
        epilog="Settings, all from the environment:\n\n" + settings_module.describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--check",
        action="store_true",
        help="read the settings and the model list, ask the backend, say what is wrong and what "
        "to do next, and exit "
        "(0 = all good, 1 = the backend does not answer, 2 = settings or model list are wrong)",
    )
    action.add_argument(
        "--settings", action="store_true", help="print docs/reference/settings.md and exit"
    )
    return parser


# Each imports what it alone needs, so that --help and --settings answer at once.


def _check(settings: Settings) -> int:
    from gateway.process import preflight

    return preflight.run(settings)


def _serve(settings: Settings) -> None:
    from gateway.process.server import Server
    from headrace.http import log

    log.install("json", settings.log_level, loggers=("gateway", "headrace"))
    if settings.processes > 1:
        from gateway.process import workers

        workers.run(settings, settings.processes)
    else:
        Server(settings).run()


if __name__ == "__main__":
    sys.exit(main())
