"""Renders the user's list of models into the store and waits until the gateway serves just that. Runs in .venv."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.terminal import Step, say
from headrace.wire import config, store
from headrace.wire.errors import ConfigError

_LIMIT_S = 60.0


def main(gateway: str, desired: str, folder: str) -> int:
    try:
        rendered = store.render_live(Path(desired), Path(folder))
    except ConfigError as error:
        print(f"{error}\nThe models of before go on being served.", file=sys.stderr)
        return 1
    if rendered.waiting:
        names = ", ".join(rendered.waiting)
        say(f"      Without a version yet, so left out: {names}. `make train MODELS=...` trains the zoo's.")
    live = config.load(Path(folder) / store.CONFIG_NAME)
    for warning in store.unserved_labels(live, Path(folder)):
        say(f" warn {warning}")
    with Step("Waiting until the change is live", "live") as step:
        deadline = time.monotonic() + _LIMIT_S
        while differences := compare(live, Path(folder), _models(gateway)):
            step.detail(differences[0])
            if time.monotonic() > deadline or any("failed" in difference for difference in differences):
                break
            time.sleep(0.1)
    for difference in differences:
        print(difference, file=sys.stderr)
    return 1 if differences else 0


def compare(wanted: config.ServingConfig, folder: Path, served: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the gateway does not say yet of what the list says, in sentences."""
    told = [f"{name} is still served" for name in sorted(served.keys() - {model.name for model in wanted.models})]
    for model in wanted.models:
        versions = served.get(model.name, {}).get("versions", [])
        there = {v["version"] for v in versions if v["state"] == "AVAILABLE"}
        expected = set(store.wanted_versions(model, folder))
        for version in sorted(expected - there):
            failed = next((v["reason"] for v in versions if v["version"] == version and v["reason"]), "")
            told.append(
                f"{model.name} version {version} " + (f"failed to load: {failed}" if failed else "is not served yet")
            )
        told += [f"{model.name} version {version} is still served" for version in sorted(there - expected)]
        if not told and dict(served[model.name]["labels"]) != dict(model.labels):
            told.append(f"{model.name} does not have its labels yet")
    return told


def _models(gateway: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{gateway}/v1/models", timeout=5) as answer:
            return {model["name"]: model for model in json.load(answer)["models"]}
    except OSError:
        return {}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
