"""One JSON value -> one tensor, exactly as TensorFlow Serving converts it.

The shape is what first elements suggest; values come in the order of the text, and the first wrong
one is told with its place and what was expected there.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from headrace.codec.json.printer import dump, type_name
from headrace.codec.json.rapidjson import JsonObject
from headrace.protocol import dtypes
from headrace.protocol.dtypes import DType
from headrace.protocol.faults import Fault, JsonPath
from headrace.protocol.refusals import refuse, refuse_fault
from headrace.protocol.signatures import Shape, TensorSpec

# Numpy's; TensorFlow itself stops at 254.
MAX_RANK = 64

INT32_RANGE = (-(1 << 31), (1 << 31) - 1)
UINT32_MAX = (1 << 32) - 1
# What an integer literal may be. The 8 and 16 bit types are read as int32 and wrapped, as
# TensorFlow Serving does.
_RANGES: Mapping[DType | None, tuple[int, int]] = {
    dtypes.INT8: INT32_RANGE,
    dtypes.INT16: INT32_RANGE,
    dtypes.UINT8: INT32_RANGE,
    dtypes.INT32: INT32_RANGE,
    dtypes.INT64: (-(1 << 63), (1 << 63) - 1),
    dtypes.UINT32: (0, UINT32_MAX),
    dtypes.UINT64: (0, (1 << 64) - 1),
}
_REALS = (dtypes.FLOAT, dtypes.DOUBLE)


def tensor(value: Any, spec: TensorSpec, place: JsonPath, *, hint: str = "") -> np.ndarray:
    """One value, scalar or nested lists, as the spec's dtype."""
    shape, leaves = filled(value, spec, place, {"hint": hint})
    return array_of(leaves, shape, spec, place)


def regular(value: list[Any], spec: TensorSpec) -> np.ndarray | None:
    """All rows at once, if they are alike and hold what they should; None sends them one by one."""
    shape = dense_shape(value)
    raw = _leaves(value, shape)
    if raw is None:
        return None
    leaves = _converted(raw, spec.dtype)
    if leaves is None:
        return None
    return array_of(leaves, shape, spec, ("instances",))


def described(value: Any) -> str:
    """A value in a few words: a list of 3, the text "abc", null."""
    if isinstance(value, list):
        return _list_of(len(value))
    if isinstance(value, JsonObject):
        return "an object"
    if value is None or isinstance(value, bool):
        return dump(value)
    shown = dump(value, 42)
    if not isinstance(value, str):
        return f"the number {shown}"
    if len(shown) == 42:
        shown = f'{shown[:39]}..."'
    return f"the text {shown}"


def _list_of(size: int) -> str:
    if not size:
        return "an empty list"
    return f"a list of {size}"


def decoded_base64(text: str) -> bytes | None:
    """Padding may be missing or written with full stops, blanks may stand anywhere; None for
    anything else."""
    digits = text.rstrip("=.")
    if _BASE64.fullmatch(digits) is None:
        text = _BLANKS.sub("", text)
        digits = text.rstrip("=.")
        if _BASE64.fullmatch(digits) is None:
            return None

    missing = -len(digits) % 4
    padding = len(text) - len(digits)
    if missing == 3 or padding not in (0, missing):
        return None
    padded = digits + "=" * missing
    return binascii.a2b_base64(padded)


_BLANKS = re.compile(r"[ \t\n\v\f\r]+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*")


def filled(
    value: Any, spec: TensorSpec, place: JsonPath, facts: Mapping[str, Any]
) -> tuple[Shape, list[Any]]:
    """The shape that first elements suggest, and the values in row-major order; the first fault
    otherwise."""
    shape = dense_shape(value)
    raw = _leaves(value, shape)
    if raw is not None:
        leaves = _converted(raw, spec.dtype)
        if leaves is not None:
            return shape, leaves

    fault = next(_faults(value, shape, spec))
    placed = replace(
        fault,
        place=(*place, *fault.place),
        facts={**fault.facts, **facts},
    )
    refuse_fault(placed)


def dense_shape(value: Any) -> Shape:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _leaves(value: Any, shape: Shape) -> list[Any] | None:
    """The values under nested lists of exactly this shape; None if they are ragged."""
    level: list[Any] = [value]
    for size in shape:
        if set(map(type, level)) != {list}:
            return None
        if set(map(len, level)) != {size}:
            return None
        level = list(chain.from_iterable(level))
    if list in set(map(type, level)):
        return None
    return level


def _converted(leaves: list[Any], dtype: DType | None) -> list[Any] | None:
    """The values if every one is what the dtype takes, strings as bytes; None otherwise."""
    if not leaves:
        return leaves
    types = set(map(type, leaves))
    if dtype in _REALS:
        is_taken = types <= {int, float}
    elif dtype in _RANGES:
        low, high = _RANGES[dtype]
        is_taken = types == {int} and low <= min(leaves) and max(leaves) <= high
    elif dtype is dtypes.BOOL:
        is_taken = types == {bool}
    elif dtype is dtypes.STRING:
        leaves = [_bytes(value) for value in leaves]
        is_taken = None not in leaves
    else:
        is_taken = False

    if not is_taken:
        return None
    return leaves


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if is_base64(value):
        return decoded_base64(value["b64"])
    return None


def array_of(leaves: list[Any], shape: Shape, spec: TensorSpec, place: JsonPath) -> np.ndarray:
    if len(shape) > MAX_RANK:
        refuse(
            "rank",
            place,
            f"at most {MAX_RANK}",
            f"rank {len(shape)}",
            name=spec.alias,
        )
    dtype = spec.dtype
    if dtype is None:
        fault = _unsupported(None, spec)
        refuse_fault(replace(fault, place=place))

    if dtype is dtypes.STRING:
        array = np.empty(len(leaves), object)
        array[:] = leaves
    elif dtype in _REALS:
        doubles = np.array(leaves, np.float64)
        array = rounded(doubles, dtype)
    elif _RANGES.get(dtype) == INT32_RANGE:
        integers = np.array(leaves, np.int32)
        array = integers.astype(dtype.numpy, copy=False)
    else:
        array = np.array(leaves, dtype.numpy)
    return array.reshape(shape)


@np.errstate(over="ignore")
def rounded(doubles: np.ndarray, dtype: DType) -> np.ndarray:
    """In a type of reals: what is beyond it is infinite, as in TensorFlow Serving."""
    return doubles.astype(dtype.numpy, copy=False)


def _faults(value: Any, shape: Shape, spec: TensorSpec) -> Iterator[Fault]:
    """What is wrong, in the order of the text; places are relative to the value."""
    rank = len(shape)
    open_lists: list[Iterator[Any]] = [iter((value,))]
    counts = [0]
    while open_lists:
        level = len(open_lists) - 1
        try:
            item = next(open_lists[-1])
        except StopIteration:
            open_lists.pop()
            counts.pop()
            continue

        counts[-1] += 1
        place = _Position(counts)
        if not isinstance(item, list):
            if level != rank:
                yield Fault(
                    "value_level",
                    place.now(),
                    expected=_list_of(shape[level]),
                    got=described(item),
                    facts={"dump": dump(item), "level": level + 1, "rank": rank},
                )
            yield from _leaf_faults(item, spec, place)
        elif level >= rank:
            yield Fault(
                "list_level",
                place.now(),
                expected=expected_text(spec),
                got=described(item),
                facts={"level": level, "rank": rank},
            )
        elif len(item) != shape[level]:
            yield _size_fault(item, shape[level], level, place)
        else:
            open_lists.append(iter(item))
            counts.append(0)


def _size_fault(value: list[Any], size: int, level: int, place: _Position) -> Fault:
    return Fault(
        "list_size",
        place.now(),
        expected=_list_of(size),
        got=described(value),
        facts={"size": len(value), "level": level, "wanted": size},
    )


class _Position:
    """The place under the cursor, made only when asked for."""

    def __init__(self, counts: Sequence[int]) -> None:
        self._counts = counts

    def now(self) -> JsonPath:
        return tuple(count - 1 for count in self._counts[1:])


def _leaf_faults(value: Any, spec: TensorSpec, place: _Position) -> Iterator[Fault]:
    dtype = spec.dtype
    if isinstance(value, JsonObject) and dtype is dtypes.STRING:
        if not is_base64(value):
            yield Fault(
                "base64_object",
                place.now(),
                expected='{"b64": "..."}',
                got="another object",
                facts={"dump": dump(value)},
            )
        elif decoded_base64(value["b64"]) is None:
            yield Fault(
                "base64",
                (*place.now(), "b64"),
                expected="base64",
                got=described(value["b64"]),
            )
    elif not isinstance(value, JsonObject) and not _is_convertible(dtype):
        fault = _unsupported(value, spec)
        yield replace(fault, place=place.now())
    elif _converted([value], dtype) is None:
        yield Fault(
            "value_type",
            place.now(),
            expected=expected_text(spec, value),
            got=described(value),
            facts={
                "dump": dump(value),
                "type": type_name(value),
                "dtype": _dtype_name(spec),
            },
        )


def _unsupported(value: Any, spec: TensorSpec) -> Fault:
    return Fault(
        "dtype_unsupported",
        got=described(value),
        facts={
            "dump": dump(value),
            "dtype": _dtype_name(spec),
        },
    )


def _is_convertible(dtype: DType | None) -> bool:
    if dtype in (dtypes.BOOL, dtypes.STRING):
        return True
    return dtype in _REALS or dtype in _RANGES


def is_base64(value: Any) -> bool:
    """An object with b64 as its only key, and a string under it."""
    return (
        isinstance(value, JsonObject)
        and len(value) == 1
        and "b64" in value
        and isinstance(value["b64"], str)
    )


def expected_text(spec: TensorSpec, instead_of: Any = None) -> str:
    dtype = spec.dtype
    if dtype in _RANGES:
        if type(instead_of) is not int:
            return f"an integer ({dtype})"
        low, high = _RANGES[dtype]
        return f"an integer from {low} to {high} ({dtype})"
    if dtype is dtypes.BOOL:
        return "true or false"
    if dtype is dtypes.STRING:
        return 'text or {"b64": "..."}'
    return f"a number ({_dtype_name(spec)})"


def _dtype_name(spec: TensorSpec) -> str:
    if spec.dtype is None:
        return f"unknown dtype enum ({spec.dtype_number})"
    return spec.dtype.name
