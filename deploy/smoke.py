"""One real predict of each model through the gateway, with its golden request if it has one."""

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
from headrace.protocol.errors import HeadraceError
from headrace.store import golden

# The process that trained the model recorded the answer, and the graph that serves may fuse
# operations: the last digits may differ.
_TOLERANCE = 1e-3
# Characters shown of an answer.
_ANSWER_LENGTH = 100
# Characters shown of an error's body.
_ERROR_LENGTH = 500


def smoke(gateway: str | None, store: Path) -> None:
    """Print a line for each model; raise Stop if one does not answer as recorded."""
    if gateway is None:
        raise Stop("Nothing runs; `make up` starts the stack.")
    try:
        listed = _call(f"{gateway}/v1/models")
    except OSError as error:
        message = f"The gateway at {gateway} does not answer ({error}); `make up` starts it."
        raise Stop(message) from error
    models = listed["models"]
    if not models:
        raise Stop("No model is served.")
    failed = []
    for model in models:
        if not _try_model(gateway, store, model):
            failed.append(model["name"])
    if failed:
        names = ", ".join(failed)
        raise Stop(f"{names} did not answer as wanted; `make logs` may say why.")


def close(expected: Any, answer: Any) -> bool:
    """Equal but for the last digits of floats."""
    if isinstance(expected, dict) and isinstance(answer, dict):
        if expected.keys() != answer.keys():
            return False
        for key, value in expected.items():
            if not close(value, answer[key]):
                return False
        return True
    if isinstance(expected, list) and isinstance(answer, list):
        if len(expected) != len(answer):
            return False
        return all(map(close, expected, answer))
    if isinstance(expected, float) and isinstance(answer, int | float):
        return math.isclose(
            expected,
            answer,
            rel_tol=_TOLERANCE,
            abs_tol=_TOLERANCE,
        )
    return bool(expected == answer)


def _try_model(gateway: str, store: Path, model: Mapping[str, Any]) -> bool:
    began = time.monotonic()
    name = model["name"]
    version = model["default_version"]
    try:
        if version is None:
            state = model["state"]
            reason = model["reason"] or "no version is AVAILABLE"
            raise ValueError(f"{state}: {reason}")
        path = store / name / str(version)
        body, recorded = _request(path, model["signatures"])
        answer = _call(f"{gateway}/v1/models/{name}:predict", body)
        outputs = answer["outputs"]
        output_text = _short(outputs)
        if recorded is not None and not close(recorded, outputs):
            raise ValueError(f"answered {output_text}, recorded {_short(recorded)}")
    except (OSError, ValueError) as error:
        say(f" FAIL {name}: {error}")
        return False
    took_ms = (time.monotonic() - began) * 1000
    input_text = _short(body["inputs"])
    say(f"   ok {name} version {version}: {input_text} -> {output_text} ({took_ms:.0f} ms)")
    return True


def _request(version: Path, signatures: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """A body for :predict, and the recorded answer, or None without one."""
    try:
        requests = golden.read(version)
    except (HeadraceError, OSError):
        requests = []
    if requests:
        request = requests[0]
        body = {
            "signature_name": request.signature_name,
            "inputs": request.inputs,
        }
        return body, _without_single_name(request.outputs)
    if not signatures:
        raise ValueError("it has no signature that can be called")
    name = "serving_default"
    if name not in signatures:
        name = min(signatures)
    inputs = {}
    for alias, spec in signatures[name]["inputs"].items():
        inputs[alias] = _ones(spec["dtype"], spec["shape"])
    return {"signature_name": name, "inputs": inputs}, None


def _ones(dtype: str, shape: list[int] | None) -> Any:
    if shape:
        size, *rest = shape
        return [_ones(dtype, rest)] * max(size, 1)
    if dtype == "string":
        return "1"
    if dtype == "bool":
        return True
    if "float" in dtype:
        return 1.0
    return 1


def _without_single_name(outputs: Mapping[str, Any]) -> Any:
    """TensorFlow Serving leaves the name of a single output out."""
    if not outputs:
        return None
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    return outputs


def _call(url: str, body: Any = None) -> Any:
    request = urllib.request.Request(url)
    if body is not None:
        request.data = json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        content = error.read()
        text = content.decode(errors="replace")
        raise ValueError(f"HTTP {error.code}: {text[:_ERROR_LENGTH]}") from error


def _short(value: Any) -> str:
    text = json.dumps(_rounded(value))
    if len(text) <= _ANSWER_LENGTH:
        return text
    return text[: _ANSWER_LENGTH - 3] + "..."


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return round(value, 4)
    return value
