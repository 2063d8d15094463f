"""Keys that stand twice in a body: TensorFlow Serving takes the first, most readers the last."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from simdjson import Array, Object

from headrace.codec.json.rapidjson import Document, JsonObject
from headrace.protocol.faults import Fault


def ambiguity(
    document: Document, keys: Collection[str], *, object_key: str, rows_key: str
) -> Fault | None:
    """What another reader of this document may take for something else."""
    if document.has_byte_order_mark:
        return Fault("byte_order_mark", offset=0)
    if document.has_trailing_bytes:
        return Fault("trailing_bytes", offset=document.end)
    return duplicate_key(document.value, keys, object_key=object_key, rows_key=rows_key)


def duplicate_key(
    root: Object | JsonObject, keys: Collection[str], *, object_key: str, rows_key: str
) -> Fault | None:
    """One of ``keys`` twice in the body, or any key twice in an object that counts: the one under
    ``object_key``, and the rows under ``rows_key``."""
    names = _names(root)
    if len(set(names)) != len(names):
        for name in keys:
            if names.count(name) > 1:
                return Fault("duplicate_key", (name,))
    if object_key in names:
        value = root[object_key]
        if isinstance(value, Object | JsonObject):
            twice = _first_duplicate(value)
            if twice is not None:
                return Fault("duplicate_key", (object_key, twice))
    if rows_key in names:
        return _in_rows(root[rows_key], rows_key)
    return None


def _in_rows(rows: Any, rows_key: str) -> Fault | None:
    if not isinstance(rows, Array | list) or len(rows) == 0:
        return None
    # Objects after a first row of another kind are an error anyway.
    if not isinstance(rows[0], Object | JsonObject):
        return None
    for i, row in enumerate(rows):
        if isinstance(row, Object | JsonObject):
            twice = _first_duplicate(row)
            if twice is not None:
                return Fault("duplicate_key", (rows_key, i, twice))
    return None


def _names(value: Any) -> list[str]:
    return value.names() if isinstance(value, JsonObject) else list(value)


def _first_duplicate(value: Any) -> str | None:
    names = _names(value)
    if len(set(names)) == len(names):
        return None
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
