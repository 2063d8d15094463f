"""The bodies of TensorFlow Serving's REST answers, byte for byte, and the reading of predictions
for clients."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from headrace.codec.json.decimals import decimals
from headrace.codec.json.printer import quoted
from headrace.codec.predictions import parse_predictions
from headrace.codec.status_json import metadata, status
from headrace.codec.writer import nested
from headrace.protocol import dtypes
from headrace.protocol.errors import InvalidArgument
from headrace.protocol.signatures import Shape, Signature

__all__ = [
    "classifications",
    "error_body",
    "metadata",
    "parse_predictions",
    "predictions",
    "regressions",
    "status",
]

_INTEGERS = (
    dtypes.INT8,
    dtypes.INT16,
    dtypes.INT32,
    dtypes.INT64,
    dtypes.UINT8,
    dtypes.UINT32,
    dtypes.UINT64,
)
_BOOLS = {True: b"true", False: b"false"}


def predictions(
    arrays: Mapping[str, np.ndarray],
    signature: Signature | None = None,
    *,
    row_format: bool,
) -> bytes:
    """The answer to a :predict call; ``row_format`` as the request had it. Several outputs stand in
    order of name."""
    if not arrays:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    by_name = sorted(arrays.items())
    if row_format:
        return _row_answer(by_name)
    return _column_answer(by_name)


def classifications(labels: Sequence[Sequence[bytes]], scores: np.ndarray) -> bytes:
    """The answer to a :classify call: a row of labels and scores for each example."""
    texts = iter(decimals(scores.ravel()))
    rows = []
    for row in labels:
        pairs = []
        for label in row:
            score = next(texts)
            pairs.append(b"[%b, %b]" % (quoted(label), score))
        rows.append(b"[%b]" % b", ".join(pairs))
    results = b", ".join(rows)
    return b'{\n    "results": [%b\n    ]\n}' % results


def regressions(values: np.ndarray) -> bytes:
    """The answer to a :regress call: a number for each example."""
    texts = decimals(values.ravel())
    results = b", ".join(texts)
    return b'{\n    "results": [%b]\n}' % results


def error_body(text: str) -> bytes:
    message = text.encode("utf-8", "surrogateescape")
    return b'{\n    "error": %b\n}' % quoted(message)


def _row_answer(arrays: Sequence[tuple[str, np.ndarray]]) -> bytes:
    rows = _row_count(arrays)
    if rows == 0:
        for _, array in arrays:
            _texts(array[:0], alias="", depth=0)
        return b'{\n    "predictions": []\n}'

    if len(arrays) == 1:
        ((alias, array),) = arrays
        # A list's depth counts for what stands in it on lines of its own: objects with b64.
        texts = _texts(array, alias=alias, depth=array.ndim + 1)
        items = b", ".join(_flat_rows(texts, array.shape))
        return b'{\n    "predictions": [%b\n    ]\n}' % items

    names = []
    columns = []
    for alias, array in arrays:
        name = quoted(alias.encode())
        names.append(b"            %b: " % name)
        texts = _texts(array, alias=alias, depth=array.ndim + 2)
        columns.append(_flat_rows(texts, array.shape))

    objects = []
    for row in zip(*columns, strict=True):
        named = map(bytes.__add__, names, row)
        members = b",\n".join(named)
        objects.append(b"        {\n%b\n        }" % members)
    rows_text = b",\n".join(objects)
    return b'{\n    "predictions": [\n%b\n    ]\n}' % rows_text


def _row_count(arrays: Sequence[tuple[str, np.ndarray]]) -> int:
    rows = -1
    for alias, array in arrays:
        if array.ndim == 0:
            raise InvalidArgument(f"Tensor name: {alias} has no shape information ")
        size = len(array)
        if rows not in (-1, size):
            raise InvalidArgument(
                f"Tensor name: {alias} has inconsistent batch size: {size} expecting: {rows}"
            )
        rows = size
    return rows


def _flat_rows(texts: list[bytes], shape: Shape) -> list[bytes]:
    """One text a row, lists on one line."""
    for size in reversed(shape[1:]):
        if size == 0:
            # No elements to group: the lists above are as many as their dimensions say.
            row = nested((), shape[1:])
            return [row.replace(b",", b", ")] * shape[0]
        lists = []
        for start in range(0, len(texts), size):
            items = b", ".join(texts[start : start + size])
            lists.append(b"[%b]" % items)
        texts = lists
    return texts


def _column_answer(arrays: Sequence[tuple[str, np.ndarray]]) -> bytes:
    if len(arrays) == 1:
        ((alias, array),) = arrays
        column = _column(array, alias=alias, depth=1)
        return b'{\n    "outputs": %b\n}' % column

    members = []
    for alias, array in arrays:
        name = quoted(alias.encode())
        column = _column(array, alias=alias, depth=2)
        members.append(b"        %b: %b" % (name, column))
    outputs = b",\n".join(members)
    return b'{\n    "outputs": {\n%b\n    }\n}' % outputs


def _column(array: np.ndarray, *, alias: str, depth: int) -> bytes:
    """A tensor with every element on a line of its own."""
    texts = _texts(array, alias=alias, depth=depth + array.ndim)
    for level in reversed(range(array.ndim)):
        size = array.shape[level]
        if size == 0:
            texts = [b"[]"] * math.prod(array.shape[:level])
            continue
        inner = _line(depth + level + 1)
        outer = _line(depth + level)
        comma = b"," + inner
        lists = []
        for start in range(0, len(texts), size):
            items = comma.join(texts[start : start + size])
            lists.append(b"[%b%b%b]" % (inner, items, outer))
        texts = lists
    return texts[0]


def _line(depth: int) -> bytes:
    return b"\n" + b"    " * depth


def _texts(array: np.ndarray, *, alias: str, depth: int) -> list[bytes]:
    """Every element's text in row-major order; ``depth`` is how many brackets are open around
    one."""
    dtype = dtypes.by_numpy(array.dtype)
    if dtype in (dtypes.FLOAT, dtypes.DOUBLE):
        return decimals(array.ravel())
    if dtype in _INTEGERS:
        integers = array.ravel().tolist()
        return [b"%d" % value for value in integers]
    if dtype is dtypes.BOOL:
        bools = array.ravel().tolist()
        return [_BOOLS[value] for value in bools]
    if dtype is dtypes.STRING:
        strings = array.ravel().tolist()
        return _string_texts(
            strings,
            as_base64=alias.endswith("_bytes"),
            depth=depth,
        )
    if array.size == 0:
        return []
    raise InvalidArgument(f"Failed to write JSON value for tensor type: {dtype or array.dtype}")


def _string_texts(values: Iterable[Any], *, as_base64: bool, depth: int) -> list[bytes]:
    raw = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    if not as_base64:
        return list(map(quoted, raw))

    inner = _line(depth + 1)
    outer = _line(depth)
    template = b'{%b"b64": "%%b"%b}' % (inner, outer)
    return [template % base64.b64encode(value) for value in raw]
