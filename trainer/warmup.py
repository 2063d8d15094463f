"""Warm-up requests beside a model: the server replays them before a version serves, so that no caller pays for a
signature's first run. They are the golden requests' inputs, in the form TensorFlow Serving reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headrace.server.warmup import FILE
from headrace.wire import messages, records, tensors
from trainer.entry import Arrays


def write(name: str, examples: Mapping[str, Arrays], folder: Path) -> None:
    """One request for each signature."""
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        records.write(file, (_record(name, signature, inputs) for signature, inputs in examples.items()))


def _record(name: str, signature: str, inputs: Arrays) -> bytes:
    log = messages.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for alias, array in inputs.items():
        request.inputs[alias].CopyFrom(tensors.to_proto(array))
    return bytes(log.SerializeToString(deterministic=True))
