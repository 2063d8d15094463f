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
    has_rows = "instances" in body
    has_columns = "inputs" in body
    if has_rows and has_columns:
        refuse("both_keys", dump=dump(body))
    if has_rows:
        return _from_instances(body, signature)
    if has_columns:
        return _from_columns(body["inputs"], signature)

    hint = ""
    for name in body.names():
        hint = near_name(name, ("instances", "inputs"))
        if hint:
            break
    refuse("no_keys", hint=hint)


def _from_instances(body: JsonObject, signature: Signature) -> Tensors:
    instances = body["instances"]
    place = ("instances",)
    if not isinstance(instances, list):
        hint = WRAP_HINT
        if isinstance(instances, JsonObject):
            hint = _COLUMNS_HINT
        refuse(
            "instances_type",
            place,
            "a list",
            described(instances),
            dump=dump(body),
            hint=hint,
        )
    if not instances:
        refuse(
            "instances_empty",
            place,
            "an instance",
            "an empty list",
            dump=dump(body),
        )
    return _from_rows(instances, signature)


def _from_rows(rows: list[Any], signature: Signature) -> Tensors:
    named = is_named(rows[0])
    arrays = _regular_rows(rows, signature)
    if arrays is None:
        arrays = _irregular_rows(rows, signature)
    return Tensors(arrays, row_format=True, named=named)


def cells(rows: list[Any], signature: Signature) -> Iterator[tuple[str, Any, int, str | None]]:
    """Alias, value, row and, in rows of names, the name; the first row of another form is
    refused."""
    if is_named(rows[0]):
        yield from _named_cells(rows, signature)
        return
    if len(signature.inputs) > 1:
        expected = _keys_of(signature)
        refuse("instances_plain", ("instances", 0), expected, described(rows[0]))
    (alias,) = signature.inputs
    for i, row in enumerate(rows):
        if is_named(row):
            refuse(
                "row_is_object",
                ("instances", i),
                "a value or a list",
                "an object",
                item=i,
            )
        yield alias, row, i, None


def _named_cells(rows: list[Any], signature: Signature) -> Iterator[tuple[str, Any, int, str]]:
    names = sorted(signature.inputs)
    for i, row in enumerate(rows):
        place = ("instances", i)
        if not is_named(row):
            got = described(row)
            refuse("row_not_object", place, "an object", got, item=i)

        for name, value in row.members:
            if name not in signature.inputs:
                hint = near_name(name, names)
                expected = " and ".join(names)
                refuse(
                    "unknown_row_input",
                    (*place, name),
                    expected,
                    row=i,
                    key=name,
                    name=name,
                    hint=hint,
                )
            yield name, value, i, name

        missing = [name for name in names if name not in row]
        if missing:
            expected = ", ".join(names)
            got = missing_text(missing)
            refuse(
                "missing_row_inputs",
                place,
                expected,
                got,
                item=i,
                dump=dump(row),
                names=",".join(names),
            )


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
        facts = {"row": row, "key": key}
        shape, leaves = filled(value, self._spec, place, facts)
        if self._shape is None:
            self._shape = shape
        elif shape != self._shape:
            self._refuse(shape, self._shape, place, row=row, key=key)
        self._leaves += leaves

    def array(self, rows: int) -> np.ndarray:
        shape: Shape = (rows,)
        if self._shape is not None:
            shape = (rows, *self._shape)
        # A name twice in a row adds twice; the tensor then takes what comes first, like TensorFlow.
        leaves = self._leaves[: math.prod(shape)]
        return array_of(leaves, shape, self._spec, ("instances",))

    def _refuse(self, shape: Shape, first: Shape, place: JsonPath, **facts: Any) -> NoReturn:
        expected = f"{_shape_words(first)} as in the first instance"
        got = _shape_words(shape)
        size = math.prod(shape)
        first_size = math.prod(first)
        if size != first_size:
            refuse(
                "row_size",
                place,
                expected,
                got,
                size=size,
                wanted=first_size,
                **facts,
            )
        refuse(
            "row_shape",
            place,
            expected,
            got,
            shape=_plain_shape(shape),
            wanted=_plain_shape(first),
            **facts,
        )


def _from_columns(inputs: Any, signature: Signature) -> Tensors:
    if not is_named(inputs):
        return _from_one_column(inputs, signature)
    arrays = {}
    for alias, spec in sorted(signature.inputs.items()):
        if alias not in inputs:
            _refuse_missing(alias, inputs, signature)
        arrays[alias] = tensor(inputs[alias], spec, ("inputs", alias))
    unknown = [name for name in inputs.names() if name not in arrays]
    return Tensors(
        arrays,
        row_format=False,
        named=True,
        unknown=tuple(unknown),
    )


def _from_one_column(inputs: Any, signature: Signature) -> Tensors:
    hint = ""
    if isinstance(inputs, list) and inputs and is_named(inputs[0]):
        hint = _ROWS_HINT
    if len(signature.inputs) > 1:
        refuse(
            "inputs_plain",
            ("inputs",),
            _keys_of(signature),
            described(inputs),
            hint=hint,
        )
    (spec,) = signature.inputs.values()
    array = tensor(inputs, spec, ("inputs",), hint=hint)
    return Tensors({spec.alias: array}, row_format=False)


def _refuse_missing(alias: str, inputs: JsonObject, signature: Signature) -> NoReturn:
    known = sorted(signature.inputs)
    missing = [name for name in known if name not in inputs]
    expected = ", ".join(known)
    if len(missing) == 1:
        element = expected_text(signature.inputs[alias])
        expected = f"{element} or a list"

    hint = ""
    for name in inputs.names():
        if name not in signature.inputs:
            hint = f" (there is {name})"
            break
    refuse(
        "missing_input",
        ("inputs", alias),
        expected,
        missing_text(missing),
        name=alias,
        hint=hint,
    )


def _regular_rows(rows: list[Any], signature: Signature) -> dict[str, np.ndarray] | None:
    """Column by column, if all rows are plain, or each has the inputs once and in one order; else
    None."""
    if not is_named(rows[0]):
        if len(signature.inputs) > 1 or any(map(is_named, rows)):
            return None
        (spec,) = signature.inputs.values()
        array = regular(rows, spec)
        if array is None:
            return None
        return {spec.alias: array}

    if set(map(type, rows)) != {JsonObject}:
        return None
    names = rows[0].names()
    if sorted(names) != sorted(signature.inputs):
        return None
    for row in rows:
        if row.names() != names:
            return None

    arrays = {}
    for i, name in enumerate(names):
        column = [row.members[i][1] for row in rows]
        array = regular(column, signature.inputs[name])
        if array is None:
            return None
        arrays[name] = array
    return arrays


def _irregular_rows(rows: list[Any], signature: Signature) -> dict[str, np.ndarray]:
    """Value by value; refuses the first that does not belong."""
    columns = {}
    for alias, spec in signature.inputs.items():
        columns[alias] = _Column(spec)
    for alias, value, row, key in cells(rows, signature):
        columns[alias].add(value, row, key)

    arrays = {}
    for alias, column in columns.items():
        arrays[alias] = column.array(len(rows))
    return arrays


def is_named(value: Any) -> bool:
    """An object of inputs by name, not one that stands for bytes."""
    return isinstance(value, JsonObject) and not is_base64(value)


def _keys_of(signature: Signature) -> str:
    names = ", ".join(sorted(signature.inputs))
    return f"an object with the keys {names}"


def _shape_words(shape: Shape) -> str:
    if not shape:
        return "a single value"
    return f"shape {shape_text(shape)}"


def _plain_shape(shape: Shape) -> str:
    sizes = ",".join(map(str, shape))
    return f"[{sizes}]"
