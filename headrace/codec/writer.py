"""A :predict body from arrays, for clients. The numbers of an array are formatted by one call on
one template."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from headrace.codec.json.printer import quoted
from headrace.protocol import dtypes
from headrace.protocol.errors import InvalidArgument, Unimplemented
from headrace.protocol.signatures import Shape, Signature

# Digits that bring every value back: a float needs nine, a double seventeen.
_FORMATS = {"f4": "%.9g", "f8": "%.17g"}
_BOOLS = {True: b"true", False: b"false"}
_NOT_IN_JSON = (
    dtypes.HALF,
    dtypes.BFLOAT16,
    dtypes.COMPLEX64,
    dtypes.COMPLEX128,
)
_CACHED_ELEMENTS = 1 << 14


def build_predict(
    inputs: Mapping[str, Any],
    *,
    signature_name: str = "",
    row_format: bool = False,
    signature: Signature | None = None,
) -> bytes:
    """``inputs`` are arrays by name. Rows want an equal first dimension; with one input they are
    plain values.

    Without ``signature`` a single input travels by name too, unless it goes as rows.
    """
    if not inputs:
        raise InvalidArgument("no inputs; a predict call over REST needs at least one")
    arrays = {}
    for name, value in inputs.items():
        arrays[name] = np.asarray(value)

    head = b""
    if signature_name:
        text = quoted(signature_name.encode())
        head = b'"signature_name":%b,' % text
    if row_format:
        input_count = len(arrays)
        if signature is not None:
            input_count = max(input_count, len(signature.inputs))
        rows = _rows(arrays, named=input_count > 1)
        return b'{%b"instances":%b}' % (head, rows)

    names = [quoted(name.encode()) for name in arrays]
    columns = _object(names, map(_text, arrays.values()))
    return b'{%b"inputs":%b}' % (head, columns)


def _rows(arrays: Mapping[str, np.ndarray], *, named: bool) -> bytes:
    sizes = set()
    for array in arrays.values():
        sizes.add(array.shape[:1])
    if len(sizes) != 1 or sizes & {(), (0,)}:
        shapes = []
        for name, array in arrays.items():
            shapes.append(f"{name}: {array.shape}")
        listed = ", ".join(shapes)
        raise InvalidArgument(
            f"rows need the same number of instances, at least one, in every input; got {listed}"
        )
    if not named:
        (array,) = arrays.values()
        return _text(array)

    names = []
    columns = []
    for name, array in arrays.items():
        names.append(quoted(name.encode()))
        columns.append(map(_text, array))
    rows = []
    for row in zip(*columns, strict=True):
        rows.append(_object(names, row))
    return b"[%b]" % b",".join(rows)


def _object(names: Iterable[bytes], texts: Iterable[bytes]) -> bytes:
    members = []
    for name, text in zip(names, texts, strict=True):
        members.append(b"%b:%b" % (name, text))
    return b"{%b}" % b",".join(members)


def _text(value: Any) -> bytes:
    array = np.asarray(value)
    shape = array.shape
    dtype = dtypes.by_numpy(array.dtype)
    if array.dtype == object or (dtype is not None and dtype.is_string):
        strings = array.ravel().tolist()
        return nested(map(_string, strings), shape)
    if dtype is None or dtype in _NOT_IN_JSON:
        raise Unimplemented(f"{array.dtype} values do not travel as JSON; use gRPC")

    flat = array.ravel().tolist()
    if dtype is dtypes.BOOL:
        words = [_BOOLS[item] for item in flat]
        return nested(words, shape)
    number = _FORMATS.get(array.dtype.str[1:], "%d")
    if number != "%d" and not np.isfinite(array).all():
        numbers = [_real(item, number) for item in flat]
        return nested(numbers, shape)
    text = _template(shape, number) % tuple(flat)
    return text.encode()


def nested(texts: Iterable[bytes], shape: Shape) -> bytes:
    """The texts as nested lists of a shape."""
    template = _template(shape, "%b").encode()
    return template % tuple(texts)


def _string(item: Any) -> bytes:
    if isinstance(item, str):
        text = item.encode()
        return quoted(text)
    if isinstance(item, bytes):
        encoded = base64.b64encode(item)
        return b'{"b64":"%b"}' % encoded
    type_name = type(item).__name__
    raise InvalidArgument(f"a {type_name} among text; expected str or bytes")


def _real(value: float, number: str) -> bytes:
    if math.isfinite(value):
        text = number % value
        return text.encode()
    if math.isnan(value):
        return b"NaN"
    if value > 0:
        return b"Infinity"
    return b"-Infinity"


def _template(shape: Shape, item: str) -> str:
    if math.prod(shape) <= _CACHED_ELEMENTS:
        return _cached_template(shape, item)
    return _new_template(shape, item)


def _new_template(shape: Shape, item: str) -> str:
    for size in reversed(shape):
        items = ",".join([item] * size)
        item = f"[{items}]"
    return item


_cached_template = lru_cache(maxsize=256)(_new_template)
