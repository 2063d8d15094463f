"""A caller's values as the arrays a signature takes: names, shapes, dtypes. Casts that would lose
information are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.protocol import dtypes
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import InvalidArgument, Unimplemented
from headrace.protocol.signatures import Signature

# A value may be cast to its own kind or to a wider one: 1 to a float, but not 1.5 to an integer.
_BOOL, _INTEGER, _FLOAT, _COMPLEX = range(4)
_KINDS = {
    "b": _BOOL,
    "i": _INTEGER,
    "u": _INTEGER,
    "f": _FLOAT,
    "c": _COMPLEX,
}


def cast_inputs(inputs: Any, signature: Signature, *, model: str) -> dict[str, np.ndarray]:
    """The arrays of a request by input name, each with its input's dtype.

    Missing inputs are left to the server to report.
    """
    if not isinstance(inputs, Mapping):
        if len(signature.inputs) != 1:
            raise InvalidArgument(f"{model}: give a dict, because {_takes(signature)}")
        (name,) = signature.inputs
        inputs = {name: inputs}

    arrays = {}
    for name, value in inputs.items():
        spec = signature.inputs.get(name)
        if spec is None:
            raise InvalidArgument(f"{model}: no input {str(name)!r}; {_takes(signature)}")
        arrays[name] = _array(name, value, spec.dtype)
    return arrays


def _takes(signature: Signature) -> str:
    inputs = []
    for spec in signature.inputs.values():
        dtype = f"dtype {spec.dtype_number}"
        if spec.dtype is not None:
            dtype = spec.dtype.word
        inputs.append(f"{spec.alias} ({dtype} {spec.shape_text})")

    listed = ", ".join(inputs)
    if not inputs:
        listed = "nothing"
    return f"signature {signature.name} takes {listed}"


def _array(name: str, value: Any, dtype: DType | None) -> np.ndarray:
    if dtype is None:
        raise Unimplemented(f"{name}: its dtype cannot be sent over the wire")
    if dtype.is_string:
        return _strings(name, value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        # Numpy refuses nested lists of unequal length.
        raise InvalidArgument(
            f"{name}: the nested lists are ragged; a tensor has the same length everywhere"
        ) from error
    if array.dtype == dtype.numpy:
        return array
    return _cast(name, array, dtype)


def _cast(name: str, array: np.ndarray, dtype: DType) -> np.ndarray:
    if array.size == 0 and array.dtype == np.float64:
        # The values of an empty list have no dtype; numpy makes it float64.
        return array.astype(dtype.numpy)

    array_dtype = dtypes.by_numpy(array.dtype)
    if array_dtype is None or array_dtype.is_string:
        raise _uncastable(name, array, dtype)
    kind = _kind(array_dtype)
    wanted_kind = _kind(dtype)
    if kind > wanted_kind:
        raise _uncastable(name, array, dtype)
    if kind == wanted_kind == _INTEGER:
        _check_range(name, array, dtype)
    try:
        with np.errstate(over="raise"):
            return array.astype(dtype.numpy)
    except FloatingPointError as error:
        raise InvalidArgument(f"{name}: a value is too large for {dtype}") from error


def _uncastable(name: str, array: np.ndarray, dtype: DType) -> InvalidArgument:
    values = f"{array.dtype} values"
    if array.dtype.kind in "US":
        values = "text"
    advice = _cast_advice(array, dtype)
    return InvalidArgument(f"{name}: {values}, expected {dtype.word}{advice}")


def _cast_advice(array: np.ndarray, dtype: DType) -> str:
    array_dtype = dtypes.by_numpy(array.dtype)
    if array_dtype is None:
        return ""
    hint = dtypes.cast_hint(array_dtype, dtype)
    if not hint:
        return ""
    return f"{hint}; cast the values yourself"


def _kind(dtype: DType) -> int:
    # Numpy knows bfloat16 as "V".
    if dtype is dtypes.BFLOAT16:
        return _FLOAT
    return _KINDS[dtype.numpy.kind]


def _check_range(name: str, array: np.ndarray, dtype: DType) -> None:
    if array.size == 0:
        return
    limits = np.iinfo(dtype.numpy)
    lowest = int(array.min())
    highest = int(array.max())
    if lowest < limits.min or highest > limits.max:
        raise InvalidArgument(
            f"{name}: a value is outside {dtype}, which holds {limits.min} to {limits.max}"
        )


def _strings(name: str, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        # Numpy's own byte strings would drop zero bytes at the end; objects keep them.
        value = np.array(value, dtype=object)
    strings = np.empty(value.shape, dtype=object)
    items = np.ndenumerate(value)
    for index, item in items:
        strings[index] = _encoded(name, item)
    return strings


def _encoded(name: str, item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes):
        return bytes(item)
    if isinstance(item, list | tuple):
        raise InvalidArgument(f"{name}: ragged lists, expected text (str or bytes)")
    type_name = type(item).__name__
    raise InvalidArgument(f"{name}: {type_name}, expected text (str or bytes)")
