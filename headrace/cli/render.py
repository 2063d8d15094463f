"""headrace render: write the live config into the store from the one you edit."""

from __future__ import annotations

import argparse

from headrace.cli import arguments
from headrace.cli.arguments import Commands
from headrace.cli.output import print_warnings

_HOW_TO_MAKE_A_VERSION = (
    "`python -m trainer train` trains a model of the zoo, `python -m trainer publish` takes a "
    "SavedModel"
)


def add(commands: Commands) -> None:
    parser = arguments.add_command(
        commands,
        "render",
        run,
        help="write the live config into the store from the config you edit",
        epilog="example:\n  headrace render --config multimodel.config --store models",
    )
    arguments.add_config(parser)
    arguments.add_store(parser)


def run(parsed: argparse.Namespace) -> int:
    from headrace.store import folders, model_list

    live = parsed.store / folders.CONFIG_NAME
    rendered = folders.render_live(parsed.config, parsed.store)
    written = "written" if rendered.changed else "unchanged"
    served = ", ".join(rendered.served) or "no model yet"
    print(f"{live} {written}; served: {served}")
    if rendered.waiting:
        waiting = ", ".join(rendered.waiting)
        print(f"waiting for their first version: {waiting}; {_HOW_TO_MAKE_A_VERSION}")
    if rendered.removed:
        print(f"no longer served: {', '.join(rendered.removed)}")
    print_warnings(folders.unserved_labels(model_list.load(live), parsed.store))
    return 0
