"""The body of a :predict call, read as JSON values -> named arrays, exactly as TensorFlow Serving converts them.

Values come in order, the first wrong one is told; the fault says where it is and what was expected there.
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NoReturn

import numpy as np

from headrace.wire import dtypes, faults
from headrace.wire.dtypes import DType
from headrace.wire.errors import InvalidArgument, Unimplemented
from headrace.wire.faults import Fault, Place
from headrace.wire.jsonprint import dump, type_name
from headrace.wire.rapidjson import JsonObject
from headrace.wire.signatures import Shape, Signature, TensorSpec, near_name, shape_text

MAX_RANK = 64  # numpy's; TensorFlow itself stops at 254

INT32_RANGE = (-(1 << 31), (1 << 31) - 1)
UINT32_MAX = (1 << 32) - 1
# What an integer literal may be. The 8 and 16 bit types are read as int32 and wrapped, as TensorFlow Serving does.
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


@dataclass(frozen=True, slots=True)
class Tensors:
    """``row_format``: the body said instances, so the answer says predictions. ``named``: the inputs stood by name."""

    arrays: dict[str, np.ndarray]
    row_format: bool
    named: bool = False


def from_object(body: JsonObject, signature: Signature) -> Tensors:
    has_rows, has_columns = "instances" in body, "inputs" in body
    if has_rows and has_columns:
        refuse(Fault("both_keys", facts={"dump": dump(body)}))
    if has_rows:
        instances = body["instances"]
        if not isinstance(instances, list):
            refuse(
                Fault("instances_type", ("instances",), "a list", described(instances), facts={"dump": dump(body)}),
            )
        if not instances:
            refuse(Fault("instances_empty", ("instances",), "an instance", "an empty list", facts={"dump": dump(body)}))
        return _from_rows(instances, signature)
    if has_columns:
        return _from_columns(body["inputs"], signature)
    refuse(Fault("no_keys"))


def refuse(fault: Fault) -> NoReturn:
    kind = Unimplemented if fault.kind == "dtype_unsupported" and "row" not in fault.facts else InvalidArgument
    raise kind(faults.our_text(fault), fault=fault)


def described(value: Any) -> str:
    """A value in a few words: a list of 3, the string "abc", null."""
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, JsonObject):
        return "an object"
    if value is None or isinstance(value, bool):
        return dump(value)
    shown = dump(value, 42)
    if isinstance(value, str):
        return "the string " + (shown if len(shown) < 42 else f'{shown[:39]}..."')
    return f"the number {shown}"


def decoded_base64(text: str) -> bytes | None:
    """Padding may be missing or written with full stops, blanks may stand anywhere; None for anything else."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        pass  # binascii.Error, or characters beyond ASCII: perhaps only the padding is unusual
    text = _BLANKS.sub("", text)
    digits = text.rstrip("=.")
    missing = -len(digits) % 4
    if missing == 3 or len(text) - len(digits) not in (0, missing) or _BASE64.fullmatch(digits) is None:
        return None
    return binascii.a2b_base64(digits + "=" * missing)


_BLANKS = re.compile(r"[ \t\n\v\f\r]+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*")


def _from_rows(instances: list[Any], signature: Signature) -> Tensors:
    named = _is_row(instances[0])
    if not named:
        if len(signature.inputs) > 1:
            wanted = "an object with the keys " + ", ".join(sorted(signature.inputs))
            refuse(Fault("instances_plain", ("instances", 0), wanted, described(instances[0])))
        (spec,) = signature.inputs.values()
        if not any(map(_is_row, instances)):
            whole = _regular(instances, spec)
            if whole is not None:
                return Tensors({spec.alias: whole}, True)
    elif (alike := _regular_rows(instances, signature)) is not None:
        return Tensors(alike, True, True)
    columns = {alias: _Column(spec) for alias, spec in signature.inputs.items()}
    for i, element in enumerate(instances):
        if named:
            _add_named(element, i, columns)
        elif _is_row(element):
            refuse(Fault("row_is_object", ("instances", i), "a value or a list", "an object", facts={"item": i}))
        else:
            columns[spec.alias].add(element, i, None)
    arrays = {alias: column.array(len(instances)) for alias, column in columns.items()}
    return Tensors(arrays, True, named)


def _add_named(row: Any, i: int, columns: Mapping[str, _Column]) -> None:
    if not _is_row(row):
        refuse(Fault("row_not_object", ("instances", i), "an object", described(row), facts={"item": i}))
    for name, value in row.members:
        if name not in columns:
            hint = near_name(name, columns)
            fault = Fault("unknown_row_input", ("instances", i, name), " and ".join(sorted(columns)))
            refuse(replace(fault, facts={"row": i, "key": name, "name": name, "hint": hint}))
        columns[name].add(value, i, name)
    missing = sorted(name for name in columns if name not in row)
    if missing:
        names = ",".join(sorted(columns))
        facts = {"item": i, "dump": dump(row), "names": names}
        expected = " and ".join(sorted(columns))
        refuse(Fault("missing_row_inputs", ("instances", i), expected, "no " + " and no ".join(missing), facts=facts))


class _Column:
    """One input gathered over the rows. The first row's shape is every row's shape."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._shape: Shape | None = None
        self._leaves: list[Any] = []

    def add(self, value: Any, row: int, key: str | None) -> None:
        place: Place = ("instances", row) if key is None else ("instances", row, key)
        facts = {"row": row, "key": key}
        shape, leaves = _filled(value, self._spec, place, facts)
        if self._shape is None:
            self._shape = shape
        elif shape != self._shape:
            got, expected = f"shape {shape_text(shape)}", f"{shape_text(self._shape)} as in the first instance"
            size, wanted = math.prod(shape), math.prod(self._shape)
            if size != wanted:
                refuse(Fault("row_size", place, expected, got, facts={**facts, "size": size, "wanted": wanted}))
            facts |= {"shape": _plain_shape(shape), "wanted": _plain_shape(self._shape)}
            refuse(Fault("row_shape", place, expected, got, facts=facts))
        self._leaves += leaves

    def array(self, rows: int) -> np.ndarray:
        shape = (rows, *(self._shape or ()))
        # A name twice in a row adds twice; the tensor then takes what comes first, like TensorFlow.
        return _array(self._leaves[: math.prod(shape)], shape, self._spec, ("instances",))


def _from_columns(inputs: Any, signature: Signature) -> Tensors:
    if not isinstance(inputs, JsonObject) or _is_base64(inputs):
        if len(signature.inputs) > 1:
            wanted = "an object with the keys " + ", ".join(sorted(signature.inputs))
            refuse(Fault("inputs_plain", ("inputs",), wanted, described(inputs)))
        (spec,) = signature.inputs.values()
        return Tensors({spec.alias: _tensor(inputs, spec, ("inputs",))}, False)
    arrays = {}
    for alias, spec in sorted(signature.inputs.items()):
        if alias not in inputs:
            facts = {"name": alias}
            refuse(Fault("missing_input", ("inputs", alias), f"{_wanted(spec)} or a list", "nothing", facts=facts))
        arrays[alias] = _tensor(inputs[alias], spec, ("inputs", alias))
    return Tensors(arrays, False, True)


def _tensor(value: Any, spec: TensorSpec, place: Place) -> np.ndarray:
    shape, leaves = _filled(value, spec, place, {})
    return _array(leaves, shape, spec, place)


def _regular(value: list[Any], spec: TensorSpec) -> np.ndarray | None:
    """All rows at once, if they are alike and hold what they should; None sends them one by one."""
    shape = _dense_shape(value)
    leaves = _leaves(value, shape)
    if leaves is not None:
        leaves = _converted(leaves, spec.dtype)
    return None if leaves is None else _array(leaves, shape, spec, ("instances",))


def _regular_rows(rows: list[Any], signature: Signature) -> dict[str, np.ndarray] | None:
    """The same for rows of names, if each has the inputs once and in one order."""
    if set(map(type, rows)) != {JsonObject}:
        return None
    names = rows[0].names()
    if sorted(names) != sorted(signature.inputs) or any(row.names() != names for row in rows):
        return None
    arrays = {}
    for i, name in enumerate(names):
        array = _regular([row.members[i][1] for row in rows], signature.inputs[name])
        if array is None:
            return None
        arrays[name] = array
    return arrays


def _filled(value: Any, spec: TensorSpec, place: Place, facts: Mapping[str, Any]) -> tuple[Shape, list[Any]]:
    """The shape that first elements suggest, and the values in row-major order; the first fault otherwise."""
    shape = _dense_shape(value)
    leaves = _leaves(value, shape)
    if leaves is not None:
        leaves = _converted(leaves, spec.dtype)
    if leaves is not None:
        return shape, leaves
    fault = next(_faults(value, shape, spec))
    refuse(replace(fault, place=(*place, *fault.place), facts={**fault.facts, **facts}))


def _dense_shape(value: Any) -> Shape:
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
        if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
            return None
        level = list(chain.from_iterable(level))
    return None if list in set(map(type, level)) else level


def _converted(leaves: list[Any], dtype: DType | None) -> list[Any] | None:
    """The values if every one is what the dtype takes, strings as bytes; None otherwise."""
    if not leaves:
        return leaves
    kinds = set(map(type, leaves))
    if dtype in _REALS:
        return leaves if kinds <= {int, float} else None
    if dtype in _RANGES:
        low, high = _RANGES[dtype]
        return leaves if kinds == {int} and low <= min(leaves) and max(leaves) <= high else None
    if dtype is dtypes.BOOL:
        return leaves if kinds == {bool} else None
    if dtype is dtypes.STRING:
        texts = [_bytes(value) for value in leaves]
        return None if None in texts else texts
    return None


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return decoded_base64(value["b64"]) if _is_base64(value) else None


def _array(leaves: list[Any], shape: Shape, spec: TensorSpec, place: Place) -> np.ndarray:
    if len(shape) > MAX_RANK:
        refuse(Fault("rank", place, f"at most {MAX_RANK}", f"rank {len(shape)}", facts={"name": spec.alias}))
    dtype = spec.dtype
    if dtype is None:
        refuse(replace(_unsupported(None, spec), place=place))
    if dtype is dtypes.STRING:
        array = np.empty(len(leaves), object)
        array[:] = leaves
    elif dtype in _REALS:
        with np.errstate(over="ignore"):  # beyond float is infinite, as in TensorFlow Serving
            array = np.array(leaves, np.float64).astype(dtype.numpy, copy=False)
    elif _RANGES.get(dtype) == INT32_RANGE:
        array = np.array(leaves, np.int32).astype(dtype.numpy, copy=False)
    else:
        array = np.array(leaves, dtype.numpy)
    return array.reshape(shape)


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
                facts = {"dump": dump(item), "level": level + 1, "rank": rank}
                yield Fault("value_level", place.now(), f"a list of {shape[level]}", described(item), facts=facts)
            yield from _leaf_faults(item, spec, place)
        elif level >= rank:
            yield Fault("list_level", place.now(), _wanted(spec), described(item), facts={"level": level, "rank": rank})
        elif len(item) != shape[level]:
            facts = {"size": len(item), "level": level, "wanted": shape[level]}
            yield Fault("list_size", place.now(), f"a list of {shape[level]}", described(item), facts=facts)
        else:
            open_lists.append(iter(item))
            counts.append(0)


class _Position:
    """The place under the cursor, made only when asked for."""

    def __init__(self, counts: Sequence[int]) -> None:
        self._counts = counts

    def now(self) -> Place:
        return tuple(count - 1 for count in self._counts[1:])


def _leaf_faults(value: Any, spec: TensorSpec, place: _Position) -> Iterator[Fault]:
    dtype = spec.dtype
    if isinstance(value, JsonObject) and dtype is dtypes.STRING:
        if not _is_base64(value):
            yield Fault("base64_object", place.now(), '{"b64": "..."}', "another object", facts={"dump": dump(value)})
        elif decoded_base64(value["b64"]) is None:
            yield Fault("base64", (*place.now(), "b64"), "base64", described(value["b64"]))
    elif not isinstance(value, JsonObject) and not _is_convertible(dtype):
        yield replace(_unsupported(value, spec), place=place.now())
    elif _converted([value], dtype) is None:
        facts = {"dump": dump(value), "type": type_name(value), "dtype": _dtype_name(spec)}
        yield Fault("value_type", place.now(), _wanted(spec), described(value), facts=facts)


def _unsupported(value: Any, spec: TensorSpec) -> Fault:
    name = _dtype_name(spec)
    return Fault("dtype_unsupported", (), "", described(value), facts={"dump": dump(value), "dtype": name})


def _is_convertible(dtype: DType | None) -> bool:
    return dtype in _REALS or dtype in _RANGES or dtype in (dtypes.BOOL, dtypes.STRING)


def _is_base64(value: Any) -> bool:
    """An object with b64 as its only key, and a string under it."""
    return isinstance(value, JsonObject) and len(value) == 1 and "b64" in value and isinstance(value["b64"], str)


def _is_row(value: Any) -> bool:
    return isinstance(value, JsonObject) and not _is_base64(value)


def _wanted(spec: TensorSpec) -> str:
    dtype = spec.dtype
    if dtype in _RANGES:
        low, high = _RANGES[dtype]
        return f"an integer from {low} to {high} ({dtype})"
    if dtype is dtypes.BOOL:
        return "true or false"
    return 'a string or {"b64": "..."}' if dtype is dtypes.STRING else f"a number ({_dtype_name(spec)})"


def _dtype_name(spec: TensorSpec) -> str:
    return f"unknown dtype enum ({spec.dtype_number})" if spec.dtype is None else spec.dtype.name


def _plain_shape(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"
