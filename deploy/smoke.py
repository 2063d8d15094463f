"""One real predict a model through the gateway, with the model's own recorded example where its
version brought one."""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.terminal import Stop, say

_GOLDEN = Path("assets.extra") / "golden.json"
# Recorded in the process that trained, answered by a graph that may fuse differently: digits
# differ, not answers.
_TOLERANCE = 1e-3
# Characters of an answer.
_SHOWN = 100


def smoke(gateway: str, store: Path) -> None:
    """Print a line for each model; Stop when one does not answer, or not as recorded."""
    try:
        models = _call(f"{gateway}/v1/models")["models"]
    except OSError as error:
        raise Stop(
            f"The gateway at {gateway} does not answer ({error}); `make up` starts it."
        ) from error
    if not models:
        raise Stop("No model is served.")
    failed = []
    for model in models:
        began = time.monotonic()
        name, version = model["name"], model["default_version"]
        try:
            if version is None:
                raise ValueError(
                    f"{model['state']}: {model['reason'] or 'no version is AVAILABLE'}"
                )
            body, wanted = _request(store / name / str(version) / _GOLDEN, model["signatures"])
            answer = _call(f"{gateway}/v1/models/{name}:predict", body)["outputs"]
            if wanted is not None and not close(_unnamed(wanted), answer):
                raise ValueError(f"answered {_short(answer)}, recorded {_short(_unnamed(wanted))}")
        except (OSError, ValueError) as error:
            failed.append(name)
            say(f" FAIL {name}: {error}")
        else:
            took = (time.monotonic() - began) * 1000
            say(
                f"   ok {name} version {version}: {_short(body['inputs'])} -> {_short(answer)} "
                f"({took:.0f} ms)"
            )
    if failed:
        raise Stop(f"{', '.join(failed)} did not answer as wanted; `make logs` may say why.")


def close(wanted: Any, got: Any) -> bool:
    """Equal but for the last digits of floats."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        return wanted.keys() == got.keys() and all(close(wanted[key], got[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(got, list):
        return len(wanted) == len(got) and all(map(close, wanted, got))
    if isinstance(wanted, float) and isinstance(got, int | float):
        return math.isclose(wanted, got, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(wanted == got)


def _request(golden: Path, signatures: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """A body for :predict, and the recorded answer (None without one)."""
    try:
        recorded = json.loads(golden.read_text())[0]
        return {
            "signature_name": recorded["signature_name"],
            "inputs": recorded["inputs"],
        }, recorded["outputs"]
    except (OSError, ValueError, LookupError):
        pass
    if not signatures:
        raise ValueError("it has no signature that can be called")
    name = "serving_default" if "serving_default" in signatures else sorted(signatures)[0]
    inputs = {
        alias: _ones(spec["dtype"], spec["shape"])
        for alias, spec in signatures[name]["inputs"].items()
    }
    return {"signature_name": name, "inputs": inputs}, None


def _ones(dtype: str, shape: list[int] | None) -> Any:
    if shape:
        return [_ones(dtype, shape[1:])] * max(shape[0], 1)
    if dtype == "string":
        return "1"
    return True if dtype == "bool" else 1.0 if "float" in dtype else 1


def _unnamed(outputs: Mapping[str, Any]) -> Any:
    """TensorFlow Serving leaves the name of a single output out."""
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def _call(url: str, body: Any = None) -> Any:
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise ValueError(
            f"HTTP {error.code}: {error.read().decode(errors='replace')[:500]}"
        ) from error


def _short(value: Any) -> str:
    text = json.dumps(_rounded(value))
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value
