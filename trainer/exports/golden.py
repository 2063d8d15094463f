"""Records golden requests: what an export answers in the process that trained it.

headrace.store.golden reads them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from headrace.protocol.dtypes import DType
from headrace.store.golden import FILE, GoldenRequest, with_bytes
from trainer.entry import Arrays


def record(served: Any, examples: Mapping[str, Arrays]) -> list[GoldenRequest]:
    """Each signature called with its example, by the module that was trained."""
    requests = []
    for name, inputs in examples.items():
        signature = getattr(served, name)
        tensors = signature(**inputs)
        answers = {alias: tensor.numpy() for alias, tensor in tensors.items()}
        requests.append(from_arrays(name, inputs, answers))
    return requests


def from_arrays(signature_name: str, inputs: Arrays, outputs: Arrays) -> GoldenRequest:
    return GoldenRequest(
        signature_name,
        inputs=_tensors(inputs),
        outputs=_tensors(outputs),
    )


def write(requests: Sequence[GoldenRequest], folder: Path) -> None:
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    rows = []
    for request in requests:
        rows.append(asdict(request))
    text = json.dumps(rows)
    path.write_text(text + "\n", encoding="utf-8")


def to_json(array: np.ndarray) -> Any:
    """Nested lists, with bytes as TensorFlow Serving writes them."""
    values = np.asarray(array).tolist()
    return _without_bytes(values)


def to_array(value: Any, dtype: DType) -> np.ndarray:
    """The array that to_json() wrote; float32 comes back bit for bit."""
    return np.array(with_bytes(value), dtype.numpy)


def difference(answer: np.ndarray, recorded: np.ndarray, *, tolerance: float) -> str | None:
    """How the answer differs from the recorded one; None within ``tolerance``.

    The tolerance is absolute and relative.
    """
    if answer.shape != recorded.shape:
        shape = list(answer.shape)
        recorded_shape = list(recorded.shape)
        return f"shape {shape}, recorded {recorded_shape}"
    if recorded.dtype.kind != "f":
        if np.array_equal(answer, recorded):
            return None
        return "not the recorded values"
    if np.allclose(answer, recorded, rtol=tolerance, atol=tolerance, equal_nan=True):
        return None
    differences = np.abs(answer.astype(np.float64) - recorded)
    largest = differences.max()
    return f"off by {largest:.3g}, tolerance {tolerance:g}"


def _tensors(arrays: Arrays) -> dict[str, Any]:
    return {alias: to_json(array) for alias, array in arrays.items()}


def _without_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_bytes(item) for item in value]
    if isinstance(value, bytes):
        base64_text = base64.b64encode(value).decode()
        return {"b64": base64_text}
    return value
