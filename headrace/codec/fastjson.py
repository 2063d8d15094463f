"""The fast way from a :predict body to arrays, over what simdjson parsed: certain of its answer, or
silent.

as_buffer() flattens a nested array and loses its shape. The skeleton brings it back: the body
without blanks and the characters of numbers must be what the wanted shape would leave. Since the
parser vouches for the grammar, only two things look alike in a skeleton, a list of one number and
an empty one; the number of elements tells these apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from simdjson import Array, Object

from headrace.codec.arrays import Tensors
from headrace.codec.values import INT32_RANGE, MAX_RANK, UINT32_MAX, rounded
from headrace.protocol import dtypes
from headrace.protocol.dtypes import DType
from headrace.protocol.signatures import Shape, TensorSpec

Specs = Mapping[str, TensorSpec]

_DROPPED = b"0123456789+-.eE \t\r\n"
_CACHED_ELEMENTS = 1 << 14
_MAX_KEYS = 16
# What as_buffer() is asked for: doubles, signed or unsigned integers.
_BUFFERS: dict[DType | None, Literal["d", "i", "u"]] = {
    dtypes.FLOAT: "d",
    dtypes.DOUBLE: "d",
    dtypes.INT8: "i",
    dtypes.INT16: "i",
    dtypes.INT32: "i",
    dtypes.INT64: "i",
    dtypes.UINT8: "i",
    dtypes.UINT32: "u",
    dtypes.UINT64: "u",
}
_BUFFER_DTYPES = {
    "d": np.dtype(np.float64),
    "i": np.dtype(np.int64),
    "u": np.dtype(np.uint64),
}


class _Unsure(Exception):
    """Something for the exact way."""


def tensors(
    body: bytes, root: Any, specs: Specs, *, rows: str = "instances", columns: str = "inputs"
) -> Tensors | None:
    """What stands under the key ``rows`` or ``columns``; None for everything but plain numbers in
    the right places."""
    names = list(root)
    row_format = rows in names
    key = columns
    if row_format:
        key = rows
    if len(names) > _MAX_KEYS:
        return None
    if names.count(rows) + names.count(columns) != 1:
        return None
    for spec in specs.values():
        if spec.dtype not in _BUFFERS:
            return None

    try:
        arrays, skeleton, named = _read(root[key], specs, row_format=row_format)
        members = []
        for name in names:
            if name == key:
                members.append(skeleton)
            else:
                members.append(_scalar_skeleton(root[name]))
        expected = _object_skeleton(names, members)
    except (_Unsure, KeyError):
        # KeyError: simdjson's reader for Python looks for a name with a NUL by its first part.
        return None
    if body.translate(None, _DROPPED) != expected:
        return None
    return Tensors(arrays, row_format, named)


def _read(
    value: Any, specs: Specs, *, row_format: bool
) -> tuple[dict[str, np.ndarray], bytes, bool]:
    """The arrays, the skeleton that proves them, and whether the inputs stood by name."""
    is_list = isinstance(value, Array)
    if row_format:
        if not is_list or not len(value):
            raise _Unsure
        if isinstance(value[0], Object):
            arrays, skeleton = _rows(value, specs)
            return arrays, skeleton, True
    elif isinstance(value, Object):
        arrays, skeleton = _columns(value, specs)
        return arrays, skeleton, True

    if len(specs) != 1:
        raise _Unsure
    ((alias, spec),) = specs.items()
    array, skeleton = _numbers(value, spec.dtype)
    return {alias: array}, skeleton, False


def _columns(value: Any, specs: Specs) -> tuple[dict[str, np.ndarray], bytes]:
    names = list(value)
    if len(names) != len(specs) or set(names) != set(specs):
        raise _Unsure

    arrays = {}
    skeletons = []
    for name in names:
        dtype = specs[name].dtype
        arrays[name], skeleton = _numbers(value[name], dtype)
        skeletons.append(skeleton)
    return arrays, _object_skeleton(names, skeletons)


def _rows(value: Any, specs: Specs) -> tuple[dict[str, np.ndarray], bytes]:
    rows = list(value)
    names = list(rows[0])
    if len(names) != len(specs) or set(names) != set(specs):
        raise _Unsure
    # The names must be read: in a skeleton "x1" and "x2" are the same.
    for row in rows:
        if not isinstance(row, Object) or list(row) != names:
            raise _Unsure

    arrays = {}
    skeletons = []
    for name in names:
        dtype = specs[name].dtype
        cells = [row[name] for row in rows]
        if isinstance(cells[0], Array):
            shape = _shape(cells[0])
            size = math.prod(shape)
            flats = []
            for cell in cells:
                part = _flat(cell, dtype)
                if part.size != size:
                    raise _Unsure
                flats.append(part)
            flat = np.concatenate(flats)
            skeletons.append(_skeleton(shape))
        else:
            shape = ()
            flat = _flat_numbers(cells, dtype)
            skeletons.append(b"")
        column = _cast(flat, dtype)
        arrays[name] = column.reshape(len(rows), *shape)

    row_skeleton = _object_skeleton(names, skeletons)
    row_skeletons = [row_skeleton] * len(rows)
    return arrays, b"[%b]" % b",".join(row_skeletons)


def _numbers(value: Any, dtype: DType | None) -> tuple[np.ndarray, bytes]:
    """An array as if its shape were the one its first elements suggest, and the skeleton that
    proves it."""
    if not isinstance(value, Array):
        flat = _flat_numbers([value], dtype)
        array = _cast(flat, dtype)
        return array.reshape(()), b""

    shape = _shape(value)
    flat = _flat(value, dtype)
    if flat.size != math.prod(shape):
        raise _Unsure
    array = _cast(flat, dtype)
    return array.reshape(shape), _skeleton(shape)


def _flat(value: Any, dtype: DType | None) -> np.ndarray:
    if not isinstance(value, Array):
        raise _Unsure
    kind = _BUFFERS[dtype]
    try:
        buffer = value.as_buffer(of_type=kind)
        return np.frombuffer(buffer, _BUFFER_DTYPES[kind])
    except (TypeError, ValueError) as cause:
        # Not all of them numbers, or not of the kind.
        raise _Unsure from cause


def _flat_numbers(values: list[Any], dtype: DType | None) -> np.ndarray:
    kind = _BUFFERS[dtype]
    types = set(map(type, values))
    if not types <= {int, float}:
        raise _Unsure
    if kind != "d" and float in types:
        raise _Unsure
    try:
        return np.array(values, _BUFFER_DTYPES[kind])
    except OverflowError as cause:
        raise _Unsure from cause


def _cast(flat: np.ndarray, dtype: DType | None) -> np.ndarray:
    """From 64 bits to the dtype, always a copy; out of range is for the exact way to tell."""
    assert dtype is not None
    if dtype is dtypes.FLOAT:
        return rounded(flat, dtype)
    if flat.size:
        if dtype is dtypes.UINT32:
            if flat.max() > UINT32_MAX:
                raise _Unsure
        elif _BUFFERS[dtype] == "i" and dtype is not dtypes.INT64:
            low, high = INT32_RANGE
            if flat.min() < low or flat.max() > high:
                raise _Unsure
    return flat.astype(dtype.numpy)


def _shape(value: Any) -> Shape:
    shape: list[int] = []
    while type(value) is Array:
        if len(shape) == MAX_RANK:
            raise _Unsure
        size = len(value)
        shape.append(size)
        if not size:
            break
        value = value[0]
    return tuple(shape)


def _skeleton(shape: Shape) -> bytes:
    if math.prod(shape) <= _CACHED_ELEMENTS:
        return _cached_skeleton(shape)
    return _new_skeleton(shape)


def _new_skeleton(shape: Shape) -> bytes:
    inner = b""
    for size in reversed(shape):
        items = b",".join([inner] * size)
        inner = b"[%b]" % items
    return inner


_cached_skeleton = lru_cache(maxsize=256)(_new_skeleton)


def _object_skeleton(names: Sequence[str], values: Sequence[bytes]) -> bytes:
    members = []
    for name, value in zip(names, values, strict=True):
        members.append(b'"%b":%b' % (_text(name), value))
    return b"{%b}" % b",".join(members)


def _scalar_skeleton(value: Any) -> bytes:
    if isinstance(value, str):
        return b'"%b"' % _text(value)
    if value is None:
        return b"null"
    if isinstance(value, bool):
        # The letter e goes with the numbers.
        if value:
            return b"tru"
        return b"fals"
    if isinstance(value, int | float):
        return b""
    raise _Unsure


def _text(text: str) -> bytes:
    # A backslash in the text stands as two in the body, and then nothing is where it should be.
    if "\\" in text:
        raise _Unsure
    return text.encode().translate(None, _DROPPED)
