"""The body of a :predict call as JSON values -> named arrays, by TensorFlow Serving's rules for
rows and columns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from headrace.codec.json.printer import dump
from headrace.codec.json.rapidjson import JsonObject
from headrace.codec.values import (
    array_of,
    described,
    expected_text,
    filled,
    is_base64,
    regular,
    tensor,
)
from headrace.protocol.dtypes import DType
from headrace.protocol.faults import JsonPath
from headrace.protocol.refusals import refuse
from headrace.protocol.signatures import (
    WRAP_HINT,
    Shape,
    Signature,
    TensorSpec,
    missing_text,
    near_name,
    shape_text,
)

_COLUMNS_HINT = " (columns by name belong under 'inputs')"
_ROWS_HINT = " (a list of rows belongs under 'instances')"


@dataclass(frozen=True, slots=True)
class Tensors:
    """``row_format``: the body said instances, so the answer says predictions. ``named``: the
    inputs stood by name.

    ``unknown`` are names among the columns that no input has: TensorFlow Serving ignores them, the
    gateway does not.
    """

    arrays: dict[str, np.ndarray]
    row_format: bool
    named: bool = False
    unknown: tuple[str, ...] = ()

    def shapes(self, signature: Signature) -> dict[str, tuple[DType | None, Shape]]:
        """Dtype and shape by name, as signatures.check() takes them; unknown names included."""
        inputs = signature.inputs
        shapes: dict[str, tuple[DType | None, Shape]] = {}
        for alias, array in self.arrays.items():
            shapes[alias] = (inputs[alias].dtype, array.shape)
        for name in self.unknown:
            shapes[name] = (None, ())
        return shapes


def from_object(body: JsonObject, signature: Signature) -> Tensors:
    has_rows, has_columns = "instances" in body, "inputs" in body
    if has_rows and has_columns:
        refuse("both_keys", dump=dump(body))
    if has_rows:
        return _from_instances(body, signature)
    if has_columns:
        return _from_columns(body["inputs"], signature)
    known = ("instances", "inputs")
    hints = (near_name(name, known) for name in body.names())
    refuse("no_keys", hint=next(filter(None, hints), ""))


def _from_instances(body: JsonObject, signature: Signature) -> Tensors:
    instances, place = body["instances"], ("instances",)
    if isinstance(instances, list):
        if not instances:
            refuse("instances_empty", place, "an instance", "an empty list", dump=dump(body))
        return _from_rows(instances, signature)
    hint = _COLUMNS_HINT if isinstance(instances, JsonObject) else WRAP_HINT
    refuse("instances_type", place, "a list", described(instances), dump=dump(body), hint=hint)


def _from_rows(rows: list[Any], signature: Signature) -> Tensors:
    named = is_named(rows[0])
    arrays = _regular_rows(rows, signature)
    if arrays is None:
        columns = {alias: _Column(spec) for alias, spec in signature.inputs.items()}
        for alias, value, row, key in cells(rows, signature):
            columns[alias].add(value, row, key)
        arrays = {alias: column.array(len(rows)) for alias, column in columns.items()}
    return Tensors(arrays, True, named)


def cells(rows: list[Any], signature: Signature) -> Iterator[tuple[str, Any, int, str | None]]:
    """Alias, value, row and, in rows of names, the name; the first row of another form is
    refused."""
    if is_named(rows[0]):
        yield from _named_cells(rows, signature)
        return
    if len(signature.inputs) > 1:
        refuse("instances_plain", ("instances", 0), _keys_of(signature), described(rows[0]))
    (alias,) = signature.inputs
    for i, row in enumerate(rows):
        if is_named(row):
            refuse("row_is_object", ("instances", i), "a value or a list", "an object", item=i)
        yield alias, row, i, None


def _named_cells(rows: list[Any], signature: Signature) -> Iterator[tuple[str, Any, int, str]]:
    names = sorted(signature.inputs)
    for i, row in enumerate(rows):
        place = ("instances", i)
        if not is_named(row):
            refuse("row_not_object", place, "an object", described(row), item=i)
        for name, value in row.members:
            if name not in signature.inputs:
                hint, expected = near_name(name, names), " and ".join(names)
                facts = {"row": i, "key": name, "name": name, "hint": hint}
                refuse("unknown_row_input", (*place, name), expected, **facts)
            yield name, value, i, name
        missing = [name for name in names if name not in row]
        if missing:
            expected, got = ", ".join(names), missing_text(missing)
            facts = {"item": i, "dump": dump(row), "names": ",".join(names)}
            refuse("missing_row_inputs", place, expected, got, **facts)


class _Column:
    """One input gathered over the rows. The first row's shape is every row's shape."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._shape: Shape | None = None
        self._leaves: list[Any] = []

    def add(self, value: Any, row: int, key: str | None) -> None:
        place: JsonPath = ("instances", row)
        if key is not None:
            place = ("instances", row, key)
        shape, leaves = filled(value, self._spec, place, {"row": row, "key": key})
        if self._shape is None:
            self._shape = shape
        elif shape != self._shape:
            self._refuse(shape, self._shape, place, row=row, key=key)
        self._leaves += leaves

    def array(self, rows: int) -> np.ndarray:
        shape = (rows, *(self._shape or ()))
        # A name twice in a row adds twice; the tensor then takes what comes first, like TensorFlow.
        return array_of(self._leaves[: math.prod(shape)], shape, self._spec, ("instances",))

    def _refuse(self, shape: Shape, first: Shape, place: JsonPath, **facts: Any) -> NoReturn:
        expected = f"{_shape_words(first)} as in the first instance"
        got = _shape_words(shape)
        size, first_size = math.prod(shape), math.prod(first)
        if size != first_size:
            refuse("row_size", place, expected, got, size=size, wanted=first_size, **facts)
        plain, plain_first = _plain_shape(shape), _plain_shape(first)
        refuse("row_shape", place, expected, got, shape=plain, wanted=plain_first, **facts)


def _from_columns(inputs: Any, signature: Signature) -> Tensors:
    if not is_named(inputs):
        return _from_one_column(inputs, signature)
    arrays = {}
    for alias, spec in sorted(signature.inputs.items()):
        if alias not in inputs:
            _refuse_missing(alias, inputs, signature)
        arrays[alias] = tensor(inputs[alias], spec, ("inputs", alias))
    unknown = tuple(name for name in inputs.names() if name not in arrays)
    return Tensors(arrays, False, True, unknown)


def _from_one_column(inputs: Any, signature: Signature) -> Tensors:
    hint = ""
    if isinstance(inputs, list) and inputs and is_named(inputs[0]):
        hint = _ROWS_HINT
    if len(signature.inputs) > 1:
        refuse("inputs_plain", ("inputs",), _keys_of(signature), described(inputs), hint=hint)
    (spec,) = signature.inputs.values()
    return Tensors({spec.alias: tensor(inputs, spec, ("inputs",), hint=hint)}, False)


def _refuse_missing(alias: str, inputs: JsonObject, signature: Signature) -> NoReturn:
    missing = sorted(name for name in signature.inputs if name not in inputs)
    others = [name for name in inputs.names() if name not in signature.inputs]
    expected = ", ".join(sorted(signature.inputs))
    if len(missing) == 1:
        expected = f"{expected_text(signature.inputs[alias])} or a list"
    hint = f" (there is {others[0]})" if others else ""
    got = missing_text(missing)
    refuse("missing_input", ("inputs", alias), expected, got, name=alias, hint=hint)


def _regular_rows(rows: list[Any], signature: Signature) -> dict[str, np.ndarray] | None:
    """Column by column, if all rows are plain, or each has the inputs once and in one order; else
    None."""
    if not is_named(rows[0]):
        if len(signature.inputs) > 1 or any(map(is_named, rows)):
            return None
        (spec,) = signature.inputs.values()
        array = regular(rows, spec)
        return None if array is None else {spec.alias: array}
    if set(map(type, rows)) != {JsonObject}:
        return None
    names = rows[0].names()
    if sorted(names) != sorted(signature.inputs):
        return None
    if any(row.names() != names for row in rows):
        return None
    arrays = {}
    for i, name in enumerate(names):
        column = [row.members[i][1] for row in rows]
        array = regular(column, signature.inputs[name])
        if array is None:
            return None
        arrays[name] = array
    return arrays


def is_named(value: Any) -> bool:
    """An object of inputs by name, not one that stands for bytes."""
    return isinstance(value, JsonObject) and not is_base64(value)


def _keys_of(signature: Signature) -> str:
    return "an object with the keys " + ", ".join(sorted(signature.inputs))


def _shape_words(shape: Shape) -> str:
    return f"shape {shape_text(shape)}" if shape else "a single value"


def _plain_shape(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"
