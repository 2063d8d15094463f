"""Golden requests: what an export was asked and answered before it left the process that trained
it.

Kept beside the model in the layout of REST bodies, so that anyone can send one again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.protocol.dtypes import DType
from trainer.entry import Arrays

FILE = "assets.extra/golden.json"

Golden = Mapping[str, Any]


def record(served: Any, examples: Mapping[str, Arrays]) -> list[Golden]:
    """Each signature called with its example, by the module that was trained."""
    recorded: list[Golden] = []
    for name, inputs in examples.items():
        outputs = getattr(served, name)(**inputs)
        recorded.append(
            {
                "signature_name": name,
                "inputs": {alias: to_json(array) for alias, array in inputs.items()},
                "outputs": {alias: to_json(tensor.numpy()) for alias, tensor in outputs.items()},
            }
        )
    return recorded


def write(golden: Sequence[Golden], folder: Path) -> None:
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(golden) + "\n", encoding="utf-8")


def read(folder: Path) -> list[Golden]:
    """Empty for an export that brought none."""
    try:
        text = (folder / FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    golden: list[Golden] = json.loads(text)
    return golden


def to_json(array: np.ndarray) -> Any:
    """Nested lists; bytes as TensorFlow Serving writes them."""
    return _without_bytes(np.asarray(array).tolist())


def to_array(value: Any, dtype: DType) -> np.ndarray:
    """What to_json wrote; float32 comes back bit for bit."""
    return np.array(_with_bytes(value), dtype.numpy)


def difference(answer: np.ndarray, wanted: np.ndarray, *, tolerance: float) -> str:
    """What tells the two apart, in words; empty when they agree within ``tolerance``, absolute and
    relative."""
    if answer.shape != wanted.shape:
        return f"shape {list(answer.shape)}, recorded {list(wanted.shape)}"
    if wanted.dtype.kind == "f":
        if not np.allclose(answer, wanted, rtol=tolerance, atol=tolerance, equal_nan=True):
            return (
                f"off by {np.abs(answer.astype(np.float64) - wanted).max():.3g}, tolerance "
                f"{tolerance:g}"
            )
        return ""
    return "" if np.array_equal(answer, wanted) else "not the recorded values"


def _with_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def _without_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_bytes(item) for item in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
