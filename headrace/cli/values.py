"""Inputs and outputs of a prediction as JSON text and as .npy and .npz files."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from headrace.client import Result
from headrace.protocol.errors import InvalidArgument


def read_json(text: str, *, source: str) -> Any:
    """Nested lists or an object by input name; {"b64": "..."} anywhere stands for bytes."""
    try:
        return json.loads(text, object_hook=_decode_base64)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{source} cannot be read: {error}") from error


def read_file(path: Path) -> Any:
    try:
        if path.suffix not in (".npy", ".npz"):
            return read_json(path.read_text(), source=str(path))
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return content
            return dict(content)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from error
    except (ValueError, EOFError) as error:
        # The file is not UTF-8, is not in .npy format, or contains pickles.
        raise InvalidArgument(f"{path} cannot be read: {error}") from error


def to_json(outputs: Result) -> str:
    """One line: the nested lists of an array, or an object of them.

    Bytes are written as text if they are UTF-8, else as base64.
    """
    if isinstance(outputs, np.ndarray):
        return json.dumps(_lists(outputs), default=_text)
    return json.dumps({name: _lists(a) for name, a in outputs.items()}, default=_text)


def _decode_base64(value: dict[str, Any]) -> Any:
    if value.keys() == {"b64"} and isinstance(value["b64"], str):
        return base64.b64decode(value["b64"], validate=True)
    return value


def _lists(array: np.ndarray) -> Any:
    """Floats have the digits of their own precision: 0.1, not 0.10000000149011612."""
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        return array.astype("U32").astype("f8").tolist()
    return array.tolist()


def _text(value: Any) -> Any:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
