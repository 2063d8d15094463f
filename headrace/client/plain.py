"""Inputs and outputs as text and files, for the command line: JSON, .npy, .npz."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headrace.client.core import Result
from headrace.protocol.errors import InvalidArgument


def read_json(text: str, *, source: str) -> Any:
    """Nested lists or an object by input name; {"b64": "..."} anywhere stands for bytes."""
    try:
        return json.loads(text, object_hook=_bytes_of)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{source} cannot be read: {error}") from error


def read_file(path: Path) -> Any:
    try:
        if path.suffix not in (".npy", ".npz"):
            return read_json(path.read_text(), source=str(path))
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from error
    except (ValueError, EOFError) as error:
        # Not UTF-8, no .npy file, or one that holds pickles.
        raise InvalidArgument(f"{path} cannot be read: {error}") from error


def to_json(outputs: Result) -> str:
    """One line: an array's nested lists, or an object of them. Bytes are text where they can be,
    else b64."""
    plain = (
        {name: _lists(a) for name, a in outputs.items()}
        if isinstance(outputs, Mapping)
        else _lists(outputs)
    )
    return json.dumps(plain, default=_as_text)


def _bytes_of(found: dict[str, Any]) -> Any:
    if found.keys() == {"b64"} and isinstance(found["b64"], str):
        return base64.b64decode(found["b64"], validate=True)
    return found


def _lists(array: np.ndarray) -> Any:
    """Each float with the digits its own precision has: 0.1, not 0.10000000149011612."""
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        return array.astype("U32").astype("f8").tolist()
    return array.tolist()


def _as_text(value: Any) -> Any:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
