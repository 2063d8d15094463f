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
_NOT_IN_JSON = (dtypes.HALF, dtypes.BFLOAT16, dtypes.COMPLEX64, dtypes.COMPLEX128)
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
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    named = len(arrays) > 1 or (signature is not None and len(signature.inputs) > 1)
    head = b""
    if signature_name:
        head = b'"signature_name":%b,' % quoted(signature_name.encode())
    if row_format:
        return b'{%b"instances":%b}' % (head, _rows(arrays, named=named))
    names = [quoted(name.encode()) for name in arrays]
    return b'{%b"inputs":%b}' % (head, _object(names, map(_text, arrays.values())))


def _rows(arrays: Mapping[str, np.ndarray], *, named: bool) -> bytes:
    sizes = {array.shape[:1] for array in arrays.values()}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        shapes = ", ".join(f"{name}: {array.shape}" for name, array in arrays.items())
        raise InvalidArgument(
            f"rows need the same number of instances, at least one, in every input; got {shapes}"
        )
    if not named:
        (array,) = arrays.values()
        return _text(array)
    names = [quoted(name.encode()) for name in arrays]
    columns = [map(_text, array) for array in arrays.values()]
    rows = [_object(names, row) for row in zip(*columns, strict=True)]
    return b"[%b]" % b",".join(rows)


def _object(names: Iterable[bytes], texts: Iterable[bytes]) -> bytes:
    members = [b"%b:%b" % member for member in zip(names, texts, strict=True)]
    return b"{%b}" % b",".join(members)


def _text(value: Any) -> bytes:
    array = np.asarray(value)
    dtype = dtypes.by_numpy(array.dtype)
    if array.dtype == object or (dtype is not None and dtype.is_string):
        return nested(map(_string, array.ravel().tolist()), array.shape)
    if dtype is None or dtype in _NOT_IN_JSON:
        raise Unimplemented(f"{array.dtype} values do not travel as JSON; use gRPC")
    flat = array.ravel().tolist()
    if dtype is dtypes.BOOL:
        return nested([b"true" if item else b"false" for item in flat], array.shape)
    number = _FORMATS.get(array.dtype.str[1:], "%d")
    if number != "%d" and not np.isfinite(array).all():
        return nested([_real(item, number) for item in flat], array.shape)
    return (_template(array.shape, number) % tuple(flat)).encode()


def nested(texts: Iterable[bytes], shape: Shape) -> bytes:
    """The texts as nested lists of a shape."""
    template = _template(shape, "%b").encode()
    return template % tuple(texts)


def _string(item: Any) -> bytes:
    if isinstance(item, str):
        return quoted(item.encode())
    if isinstance(item, bytes):
        return b'{"b64":"%b"}' % base64.b64encode(item)
    raise InvalidArgument(f"a {type(item).__name__} among text; expected str or bytes")


def _real(value: float, number: str) -> bytes:
    if math.isfinite(value):
        return (number % value).encode()
    return b"NaN" if math.isnan(value) else b"Infinity" if value > 0 else b"-Infinity"


def _template(shape: Shape, item: str) -> str:
    return (
        _kept_template(shape, item)
        if math.prod(shape) <= _CACHED_ELEMENTS
        else _new_template(shape, item)
    )


def _new_template(shape: Shape, item: str) -> str:
    for size in reversed(shape):
        item = f"[{','.join([item] * size)}]"
    return item


_kept_template = lru_cache(maxsize=256)(_new_template)
