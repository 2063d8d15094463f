"""The fast way from a :predict body to arrays, over what simdjson parsed: certain of its answer, or silent.

as_buffer() flattens a nested array and loses its shape. The skeleton brings it back: the body without blanks and without
the characters of numbers must be what the wanted shape would leave. Since the parser vouches for the grammar, only two
things look alike in a skeleton, a list of one number and an empty one; the number of elements tells these apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from simdjson import Array, Object

from headrace.wire import dtypes
from headrace.wire.dtypes import DType
from headrace.wire.faults import Fault
from headrace.wire.jsontensors import INT32_RANGE, MAX_RANK, UINT32_MAX, Tensors
from headrace.wire.signatures import Shape, Signature

KEYS = ("signature_name", "instances", "inputs")

_DROPPED = b"0123456789+-.eE \t\r\n"
_CACHED_ELEMENTS = 1 << 14
_MAX_KEYS = 16
# What as_buffer() is asked for: doubles, signed or unsigned integers.
_BUFFERS = {
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
_BUFFER_DTYPES = {"d": np.dtype(np.float64), "i": np.dtype(np.int64), "u": np.dtype(np.uint64)}


class _Unsure(Exception):
    """Something for the exact way."""


def tensors(body: bytes, root: Any, signature: Signature) -> Tensors | None:
    """None for everything but plain numbers in the right places."""
    names = list(root)
    row_format = "instances" in names
    key = "instances" if row_format else "inputs"
    if len(names) > _MAX_KEYS or names.count("instances") + names.count("inputs") != 1:
        return None
    if any(spec.dtype not in _BUFFERS for spec in signature.inputs.values()):
        return None
    try:
        value = root[key]
        if type(value) is Object:
            if row_format:
                return None
            found, skeleton = _columns(value, signature)
            arrays, named = found, True
        elif row_format and type(value) is Array and len(value) and type(value[0]) is Object:
            found, skeleton = _rows(value, signature)
            arrays, named = found, True
        else:
            if len(signature.inputs) != 1 or (row_format and (type(value) is not Array or not len(value))):
                return None
            ((alias, spec),) = signature.inputs.items()
            array, skeleton = _numbers(value, spec.dtype)
            arrays, named = {alias: array}, False
        around = [skeleton if name == key else _scalar_skeleton(root[name]) for name in names]
    except (_Unsure, ValueError, TypeError):  # simdjson's: not all numbers, or not of the kind
        return None
    if body.translate(None, _DROPPED) != _object_skeleton(names, around):
        return None
    return Tensors(arrays, row_format, named)


def duplicate_key(root: Any) -> Fault | None:
    """A name that is there twice where it matters: the keys of the call, and the names of inputs."""
    names = list(root)
    if twice := first_duplicate(names, KEYS):
        return Fault("duplicate_key", (twice,))
    if "inputs" in names and type(inputs := root["inputs"]) is Object and (twice := first_duplicate(list(inputs))):
        return Fault("duplicate_key", ("inputs", twice))
    if "instances" not in names or type(instances := root["instances"]) is not Array:
        return None
    if len(instances) == 0 or type(instances[0]) is not Object:
        return None  # rows of names after a plain one are an error anyway
    for i, row in enumerate(instances):
        if type(row) is Object and (twice := first_duplicate(list(row))):
            return Fault("duplicate_key", ("instances", i, twice))
    return None


def first_duplicate(names: Sequence[str], among: Iterable[str] | None = None) -> str | None:
    if len(set(names)) == len(names):
        return None
    seen: set[str] = set()
    for name in names:
        if name in seen and (among is None or name in among):
            return name
        seen.add(name)
    return None


def _columns(value: Any, signature: Signature) -> tuple[dict[str, np.ndarray], bytes]:
    names = list(value)
    if len(names) != len(signature.inputs) or set(names) != set(signature.inputs):
        raise _Unsure
    arrays, skeletons = {}, []
    for name in names:
        arrays[name], skeleton = _numbers(value[name], signature.inputs[name].dtype)
        skeletons.append(skeleton)
    return arrays, _object_skeleton(names, skeletons)


def _rows(value: Any, signature: Signature) -> tuple[dict[str, np.ndarray], bytes]:
    rows = list(value)
    names = list(rows[0])
    if len(names) != len(signature.inputs) or set(names) != set(signature.inputs):
        raise _Unsure
    # The names must be read: in a skeleton "x1" and "x2" are the same.
    if any(type(row) is not Object or list(row) != names for row in rows):
        raise _Unsure
    arrays, skeletons = {}, []
    for name in names:
        dtype = signature.inputs[name].dtype
        cells = [row[name] for row in rows]
        if type(cells[0]) is Array:
            shape = _shape(cells[0])
            count = math.prod(shape)
            kind = _BUFFERS[dtype]
            buffers = [memoryview(cell.as_buffer(of_type=kind)) if type(cell) is Array else b"" for cell in cells]
            if any(len(buffer) != count * 8 for buffer in buffers):
                raise _Unsure
            flat = np.frombuffer(b"".join(buffers), _BUFFER_DTYPES[kind])
            skeletons.append(_skeleton(shape))
        else:
            shape, flat = (), _flat_numbers(cells, dtype)
            skeletons.append(b"")
        arrays[name] = _cast(flat, dtype).reshape(len(rows), *shape)
    row_skeleton = _object_skeleton(names, skeletons)
    return arrays, b"[%b]" % b",".join([row_skeleton] * len(rows))


def _numbers(value: Any, dtype: DType | None) -> tuple[np.ndarray, bytes]:
    """An array as if its shape were the one its first elements suggest, and the skeleton that proves it."""
    if type(value) is not Array:
        return _cast(_flat_numbers([value], dtype), dtype).reshape(()), b""
    shape = _shape(value)
    kind = _BUFFERS[dtype]
    flat = np.frombuffer(value.as_buffer(of_type=kind), _BUFFER_DTYPES[kind])
    if flat.size != math.prod(shape):
        raise _Unsure
    return _cast(flat, dtype).reshape(shape), _skeleton(shape)


def _flat_numbers(values: list[Any], dtype: DType | None) -> np.ndarray:
    kind = _BUFFERS[dtype]
    if not set(map(type, values)) <= ({int, float} if kind == "d" else {int}):
        raise _Unsure
    try:
        return np.array(values, _BUFFER_DTYPES[kind])
    except OverflowError as cause:
        raise _Unsure from cause


def _cast(flat: np.ndarray, dtype: DType | None) -> np.ndarray:
    """From 64 bits to the dtype, always a copy; out of range is for the exact way to tell."""
    assert dtype is not None
    if dtype is dtypes.FLOAT:
        with np.errstate(over="ignore"):  # beyond float is infinite, as in TensorFlow Serving
            return flat.astype(np.float32)
    if flat.size and _BUFFERS[dtype] == "i" and dtype is not dtypes.INT64:
        low, high = INT32_RANGE
        if flat.min() < low or flat.max() > high:
            raise _Unsure
    elif flat.size and dtype is dtypes.UINT32 and flat.max() > UINT32_MAX:
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
    return _kept_skeleton(shape) if math.prod(shape) <= _CACHED_ELEMENTS else _new_skeleton(shape)


def _new_skeleton(shape: Shape) -> bytes:
    inner = b""
    for size in reversed(shape):
        inner = b"[%b]" % b",".join([inner] * size)
    return inner


_kept_skeleton = lru_cache(maxsize=256)(_new_skeleton)


def _object_skeleton(names: Sequence[str], values: Sequence[bytes]) -> bytes:
    return b"{%b}" % b",".join([b'"%b":%b' % (_text(n), v) for n, v in zip(names, values, strict=True)])


def _scalar_skeleton(value: Any) -> bytes:
    if isinstance(value, str):
        return b'"%b"' % _text(value)
    if value is None or isinstance(value, bool):
        return b"null" if value is None else b"tru" if value else b"fals"
    if isinstance(value, int | float):
        return b""
    raise _Unsure


def _text(text: str) -> bytes:
    # A backslash in the text stands as two in the body, and then nothing is where it should be.
    if "\\" in text:
        raise _Unsure
    return text.encode().translate(None, _DROPPED)
