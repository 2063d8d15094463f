"""Keys that stand twice in a body: TensorFlow Serving takes the first, most readers the last."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from simdjson import Array, Object

from headrace.codec.json.rapidjson import Document, JsonObject
from headrace.protocol.faults import Fault, JsonPath


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
    twice = _first_duplicate(names, keys)
    if twice is not None:
        return Fault("duplicate_key", (twice,))
    for place, value in _objects(root, names, object_key, rows_key):
        twice = _first_duplicate(_names(value))
        if twice is not None:
            return Fault("duplicate_key", (*place, twice))
    return None


def _objects(
    root: Any, names: Sequence[str], object_key: str, rows_key: str
) -> Iterator[tuple[JsonPath, Any]]:
    if object_key in names:
        value = root[object_key]
        if isinstance(value, Object | JsonObject):
            yield (object_key,), value
    if rows_key not in names:
        return
    rows = root[rows_key]
    # Objects after a first row of another kind are an error anyway.
    if not isinstance(rows, Array | list) or len(rows) == 0 or not _is_object(rows[0]):
        return
    for i, row in enumerate(rows):
        if _is_object(row):
            yield (rows_key, i), row


def _is_object(value: Any) -> bool:
    return isinstance(value, Object | JsonObject)


def _names(value: Any) -> list[str]:
    return value.names() if isinstance(value, JsonObject) else list(value)


def _first_duplicate(names: Sequence[str], among: Collection[str] | None = None) -> str | None:
    if len(set(names)) == len(names):
        return None
    seen: set[str] = set()
    for name in names:
        if name in seen and (among is None or name in among):
            return name
        seen.add(name)
    return None
