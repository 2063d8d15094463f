"""headrace check-config: check a model config before a server reads it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli import arguments
from headrace.cli.arguments import Commands
from headrace.cli.output import print_fields, print_warnings

if TYPE_CHECKING:
    from headrace.protocol.version_policy import VersionPolicy


def add(commands: Commands) -> None:
    parser = arguments.add_command(
        commands,
        "check-config",
        run,
        help="check a model config; an error is reported as file:line:column",
        epilog="example:\n  headrace check-config multimodel.config && make reload",
    )
    parser.add_argument("file", metavar="FILE", type=Path)
    arguments.add_store(parser, "the folder of models, where labels are looked up")


def run(parsed: argparse.Namespace) -> int:
    from headrace.store import folders, model_list

    config = model_list.load(parsed.file)
    match len(config.models):
        case 0:
            count = "0 models: once live, nothing is served"
        case 1:
            count = "1 model"
        case number:
            count = f"{number} models"
    print(f"OK: {parsed.file} lists {count}")
    for model in config.models:
        print_fields(f"  {model.name}", model.base_path, _policy(model.policy))
    if parsed.store.is_dir():
        print_warnings(folders.unserved_labels(config, parsed.store))
    return 0


def _policy(policy: VersionPolicy) -> str:
    from headrace.protocol import version_policy

    match policy:
        case version_policy.Latest(1):
            return "latest version"
        case version_policy.Latest(count):
            return f"latest {count} versions"
        case version_policy.Specific((version,)):
            return f"version {version}"
        case version_policy.Specific(versions):
            return f"versions {', '.join(map(str, versions))}"
        case version_policy.All():
            return "all versions"
