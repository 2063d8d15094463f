"""From what a caller has to what a signature takes: names, arrays, dtypes. Only casts that lose no
meaning are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.protocol import dtypes
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import InvalidArgument, Unimplemented
from headrace.protocol.signatures import Signature

# A value may be cast to its own kind or a wider one: 1 is a good float, 1.5 no good integer.
_BOOL, _INTEGER, _FLOAT, _COMPLEX = range(4)
_KINDS = {"b": _BOOL, "i": _INTEGER, "u": _INTEGER, "f": _FLOAT, "c": _COMPLEX}


def named(inputs: Any, signature: Signature, *, model: str) -> dict[str, np.ndarray]:
    """The arrays of a request by input name, each of its input's dtype. What is missing, the server
    tells."""
    if not isinstance(inputs, Mapping):
        if len(signature.inputs) != 1:
            raise InvalidArgument(f"{model}: give a dict, because {_wanted(signature)}")
        inputs = {next(iter(signature.inputs)): inputs}
    unknown = [str(name) for name in inputs if name not in signature.inputs]
    if unknown:
        raise InvalidArgument(f"{model}: no input {unknown[0]!r}; {_wanted(signature)}")
    return {
        name: _array(name, value, signature.inputs[name].dtype) for name, value in inputs.items()
    }


def _wanted(signature: Signature) -> str:
    specs = [
        f"{s.alias} ({s.dtype.word if s.dtype else f'dtype {s.dtype_number}'} {s.shape_text})"
        for s in signature.inputs.values()
    ]
    return f"signature {signature.name} takes {', '.join(specs) or 'nothing'}"


def _array(name: str, value: Any, dtype: DType | None) -> np.ndarray:
    if dtype is None:
        raise Unimplemented(f"{name}: its dtype cannot be sent over the wire")
    if dtype.is_string:
        return _strings(name, value)
    try:
        array = np.asarray(value)
    except ValueError as cause:
        # Numpy's word for nested lists of unequal length.
        raise InvalidArgument(
            f"{name}: the nested lists are ragged; a tensor has the same length everywhere"
        ) from cause
    if array.dtype == dtype.numpy:
        return array
    return _cast(name, array, dtype)


def _cast(name: str, array: np.ndarray, dtype: DType) -> np.ndarray:
    if array.size == 0 and array.dtype == np.float64:
        # An empty list has no kind of its own; numpy calls it float64.
        return array.astype(dtype.numpy)
    have = dtypes.by_numpy(array.dtype)
    if have is None or have.is_string or _kind(have) > _kind(dtype):
        raise InvalidArgument(f"{name}: {_values(array)}, expected {dtype.word}{_how(have, dtype)}")
    if _kind(have) == _kind(dtype) == _INTEGER:
        _check_range(name, array, dtype)
    try:
        with np.errstate(over="raise"):
            return array.astype(dtype.numpy)
    except FloatingPointError as cause:
        raise InvalidArgument(f"{name}: a value is too large for {dtype}") from cause


def _values(array: np.ndarray) -> str:
    return "text" if array.dtype.kind in "US" else f"{array.dtype} values"


def _how(have: DType | None, wanted: DType) -> str:
    hint = dtypes.cast_hint(have, wanted) if have else ""
    return f"{hint}; cast them as you mean it" if hint else ""


def _kind(dtype: DType) -> int:
    # Numpy knows bfloat16 as "V".
    return _FLOAT if dtype is dtypes.BFLOAT16 else _KINDS[dtype.numpy.kind]


def _check_range(name: str, array: np.ndarray, dtype: DType) -> None:
    bounds = np.iinfo(dtype.numpy)
    if array.size and not (bounds.min <= int(array.min()) and int(array.max()) <= bounds.max):
        raise InvalidArgument(
            f"{name}: a value is outside {dtype}, which holds {bounds.min} to {bounds.max}"
        )


def _strings(name: str, value: Any) -> np.ndarray:
    # Straight to object: numpy's own byte strings would drop zero bytes at the end.
    array = value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
    out = np.empty(array.shape, dtype=object)
    for index, item in np.ndenumerate(array):
        if isinstance(item, str):
            out[index] = item.encode()
        elif isinstance(item, bytes):
            out[index] = bytes(item)
        else:
            got = "ragged lists" if isinstance(item, list | tuple) else type(item).__name__
            raise InvalidArgument(f"{name}: {got}, expected text (str or bytes)")
    return out
