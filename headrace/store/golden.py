"""Golden requests: what a version was asked, and what it answered, where it was trained.

A JSON list beside the model, in the layout of REST bodies. This is its one reader; the trainer
writes it. Standard library only.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.protocol.errors import DataLoss

FILE = "assets.extra/golden.json"


@dataclass(frozen=True, slots=True)
class GoldenRequest:
    """``inputs`` and ``outputs`` map each alias to nested lists, as in a REST body."""

    signature_name: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


def read(version: Path, *, max_bytes: int | None = None) -> list[GoldenRequest]:
    """[] for a version without golden requests, or with more than ``max_bytes`` of them.

    Raises DataLoss when the file is not a list of golden requests, OSError when it cannot be read.
    """
    path = version / FILE
    if not path.is_file():
        return []
    if max_bytes is not None and path.stat().st_size > max_bytes:
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataLoss(f"{FILE} is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise DataLoss(f"{FILE} is not a list of requests")
    return [_request(entry, index) for index, entry in enumerate(entries)]


def with_bytes(value: Any) -> Any:
    """Nested lists with each {"b64": ...} decoded to bytes. Raises ValueError for bad base64."""
    if isinstance(value, list):
        return [with_bytes(item) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value


def _request(entry: Any, index: int) -> GoldenRequest:
    if not isinstance(entry, dict):
        raise DataLoss(f"{FILE}: [{index}] is not an object")
    signature_name = entry.get("signature_name")
    inputs = entry.get("inputs")
    outputs = entry.get("outputs", {})
    if not isinstance(signature_name, str):
        raise DataLoss(f"{FILE}: [{index}].signature_name is not a string")
    if not isinstance(inputs, dict) or not isinstance(outputs, dict):
        raise DataLoss(f"{FILE}: [{index}].inputs or .outputs is not an object")
    return GoldenRequest(signature_name, inputs, outputs)
