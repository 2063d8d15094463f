"""Warm-up requests beside a model: the golden requests' inputs, in TensorFlow Serving's format.

A server replays them before a version serves, so that no caller pays for the first runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from headrace.protocol import messages, tensors
from headrace.protocol.errors import HeadraceError
from headrace.protocol.signatures import TensorSpec
from headrace.server.lifecycle.warmup import FILE
from headrace.store import golden, records
from trainer.entry import Arrays
from trainer.exports import contract
from trainer.exports.golden import to_array


def write(name: str, examples: Mapping[str, Arrays], folder: Path) -> None:
    """One request for each signature."""
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    requests = (_record(name, signature, inputs) for signature, inputs in examples.items())
    with path.open("wb") as file:
        records.write(file, requests)


def add_missing(name: str, folder: Path) -> str:
    """Writes warm-up requests for an export without any, from its golden ones. Says what was done.

    They are never made up from the signature: a graph may refuse inputs it is not meant for, and a
    failed warm-up fails the load.
    """
    if (folder / FILE).exists():
        return "warm-up requests were brought"
    try:
        examples = _golden_inputs(folder)
    except (HeadraceError, LookupError, TypeError, ValueError):
        # Something is wrong with the golden requests, which the gate will report.
        examples = {}
    if not examples:
        return "no warm-up: the export brought no golden requests, so its first callers wait longer"
    write(name, examples, folder)
    return f"warm-up requests made from the golden ones, for {', '.join(examples)}"


def _golden_inputs(folder: Path) -> dict[str, Arrays]:
    signatures = contract.read(folder)
    examples: dict[str, Arrays] = {}
    for request in golden.read(folder):
        specs = signatures[request.signature_name].inputs
        arrays = {alias: _array(value, specs[alias]) for alias, value in request.inputs.items()}
        examples.setdefault(request.signature_name, arrays)
    return examples


def _array(value: object, spec: TensorSpec) -> np.ndarray:
    if spec.dtype is None:
        raise ValueError("a dtype that is not known here")
    return to_array(value, spec.dtype)


def _record(name: str, signature: str, inputs: Arrays) -> bytes:
    log = messages.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for alias, array in inputs.items():
        request.inputs[alias].CopyFrom(tensors.to_proto(array))
    return bytes(log.SerializeToString(deterministic=True))
