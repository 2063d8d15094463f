"""headrace models: what a server serves, and the inputs and outputs of each signature."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from headrace.cli import arguments
from headrace.cli.arguments import Commands
from headrace.cli.connection import connected, is_local_stack
from headrace.cli.output import print_fields


def add(commands: Commands) -> None:
    parser = arguments.add_command(
        commands,
        "models",
        run,
        help="list the models of a gateway or a server, with the inputs and outputs of each",
        epilog="example:\n  headrace models --url http://127.0.0.1:8000",
    )
    arguments.add_address(parser)


def run(parsed: argparse.Namespace) -> int:
    with connected(parsed) as server:
        models = server.models()
    for model in models:
        print_fields(model["name"], _state(model), _versions(model))
        for name, signature in model.get("signatures", {}).items():
            # TensorFlow's own signatures, for loading the model, start with underscores.
            if not name.startswith("__"):
                inputs = ", ".join(_tensors(signature["inputs"])) or "nothing"
                outputs = ", ".join(_tensors(signature["outputs"])) or "nothing"
                print(f"  {name}: {inputs} -> {outputs}")
    if not models:
        advice = ""
        if is_local_stack(parsed):
            advice = "; add one to multimodel.config and run `make reload`"
        print(f"No model is configured{advice}.")
    return 0


def _state(model: Mapping[str, Any]) -> str:
    state: str = model.get("state", "")
    reason = model.get("reason")
    return f"{state}: {reason}" if reason else state


def _versions(model: Mapping[str, Any]) -> str:
    numbers = []
    for version in model.get("versions", []):
        if version["state"] == "AVAILABLE":
            numbers.append(str(version["version"]))
    return f"version {', '.join(numbers)}" if numbers else ""


def _tensors(specs: Mapping[str, Any]) -> Iterator[str]:
    for name, spec in specs.items():
        yield f"{name} {spec['dtype']} {_shape(spec['shape'])}"


def _shape(shape: list[int] | None) -> str:
    if shape is None:
        return "any shape"
    sizes = ["?" if size < 0 else str(size) for size in shape]
    return f"[{', '.join(sizes)}]"
