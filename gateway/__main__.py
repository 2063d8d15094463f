"""python -m gateway: run it, or --check the settings; --help lists them."""

from __future__ import annotations

import argparse
import os
import sys

from gateway import settings as settings_module
from gateway.settings import Settings
from headrace.wire.errors import HeadraceError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gateway",
        description="Checks predict calls against the live models and forwards them to the serving backend.",
        epilog="Settings, all from the environment:\n\n" + settings_module.describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--check", action="store_true", help="read the settings and the model list, say what is wrong, and exit"
    )
    arguments = parser.parse_args(argv)
    try:
        settings = Settings.from_env(os.environ)
        return _check(settings) if arguments.check else _serve(settings)
    except HeadraceError as e:
        print(f"gateway: {e.message}", file=sys.stderr)
        return 2


def _check(settings: Settings) -> int:
    from headrace.wire import config

    try:
        models = config.load(settings.model_config_file).models
    except OSError as e:
        print(f"gateway: {settings.model_config_file}: {e.strerror}", file=sys.stderr)
        return 2
    named = {m.name for m in models}
    for name in settings.lenient_models:
        if name not in named:
            print(
                f'gateway: {settings_module.variable("lenient_models")} names "{name}", which is not in the model list'
            )
    print(f"settings are good; {len(models)} models: {', '.join(sorted(named)) or 'none'}")
    return 0


def _serve(settings: Settings) -> int:
    from gateway import log
    from gateway.server import Server

    log.configure(settings.log_level)
    Server(settings).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
