"""The body of a :predict call as JSON values -> named arrays, by TensorFlow Serving's rules for
rows and columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headrace.codec.json.printer import dump
from headrace.codec.json.rapidjson import JsonObject
from headrace.codec.values import (
    array_of,
    asked_for,
    described,
    filled,
    is_base64,
    refuse,
    regular,
    tensor,
)
from headrace.protocol.dtypes import DType
from headrace.protocol.faults import Fault, JsonPath
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
        refuse(Fault("both_keys", facts={"dump": dump(body)}))
    if has_rows:
        instances = body["instances"]
        if not isinstance(instances, list):
            facts = {
                "dump": dump(body),
                "hint": _COLUMNS_HINT if isinstance(instances, JsonObject) else WRAP_HINT,
            }
            refuse(
                Fault("instances_type", ("instances",), "a list", described(instances), facts=facts)
            )
        if not instances:
            refuse(
                Fault(
                    "instances_empty",
                    ("instances",),
                    "an instance",
                    "an empty list",
                    facts={"dump": dump(body)},
                )
            )
        return _from_rows(instances, signature)
    if has_columns:
        return _from_columns(body["inputs"], signature)
    known = ("instances", "inputs")
    near = next((hint for name in body.names() if (hint := near_name(name, known))), "")
    refuse(Fault("no_keys", facts={"hint": near}))


def _from_rows(instances: list[Any], signature: Signature) -> Tensors:
    named = _is_row(instances[0])
    if not named:
        if len(signature.inputs) > 1:
            wanted = "an object with the keys " + ", ".join(sorted(signature.inputs))
            refuse(Fault("instances_plain", ("instances", 0), wanted, described(instances[0])))
        (spec,) = signature.inputs.values()
        if not any(map(_is_row, instances)):
            whole = regular(instances, spec)
            if whole is not None:
                return Tensors({spec.alias: whole}, True)
    elif (alike := _regular_rows(instances, signature)) is not None:
        return Tensors(alike, True, True)
    columns = {alias: _Column(spec) for alias, spec in signature.inputs.items()}
    for i, element in enumerate(instances):
        if named:
            _add_named(element, i, columns)
        elif _is_row(element):
            refuse(
                Fault(
                    "row_is_object",
                    ("instances", i),
                    "a value or a list",
                    "an object",
                    facts={"item": i},
                )
            )
        else:
            columns[spec.alias].add(element, i, None)
    arrays = {alias: column.array(len(instances)) for alias, column in columns.items()}
    return Tensors(arrays, True, named)


def _add_named(row: Any, i: int, columns: Mapping[str, _Column]) -> None:
    if not _is_row(row):
        refuse(
            Fault(
                "row_not_object", ("instances", i), "an object", described(row), facts={"item": i}
            )
        )
    for name, value in row.members:
        if name not in columns:
            hint = near_name(name, columns)
            fault = Fault(
                "unknown_row_input", ("instances", i, name), " and ".join(sorted(columns))
            )
            refuse(replace(fault, facts={"row": i, "key": name, "name": name, "hint": hint}))
        columns[name].add(value, i, name)
    missing = sorted(name for name in columns if name not in row)
    if missing:
        names = ",".join(sorted(columns))
        facts = {"item": i, "dump": dump(row), "names": names}
        expected = ", ".join(sorted(columns))
        refuse(
            Fault(
                "missing_row_inputs", ("instances", i), expected, missing_text(missing), facts=facts
            )
        )


class _Column:
    """One input gathered over the rows. The first row's shape is every row's shape."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._shape: Shape | None = None
        self._leaves: list[Any] = []

    def add(self, value: Any, row: int, key: str | None) -> None:
        place: JsonPath = ("instances", row) if key is None else ("instances", row, key)
        facts = {"row": row, "key": key}
        shape, leaves = filled(value, self._spec, place, facts)
        if self._shape is None:
            self._shape = shape
        elif shape != self._shape:
            got, expected = (
                _shape_words(shape),
                f"{_shape_words(self._shape)} as in the first instance",
            )
            size, wanted = math.prod(shape), math.prod(self._shape)
            if size != wanted:
                refuse(
                    Fault(
                        "row_size",
                        place,
                        expected,
                        got,
                        facts={**facts, "size": size, "wanted": wanted},
                    )
                )
            facts |= {"shape": _plain_shape(shape), "wanted": _plain_shape(self._shape)}
            refuse(Fault("row_shape", place, expected, got, facts=facts))
        self._leaves += leaves

    def array(self, rows: int) -> np.ndarray:
        shape = (rows, *(self._shape or ()))
        # A name twice in a row adds twice; the tensor then takes what comes first, like TensorFlow.
        return array_of(self._leaves[: math.prod(shape)], shape, self._spec, ("instances",))


def _from_columns(inputs: Any, signature: Signature) -> Tensors:
    if not isinstance(inputs, JsonObject) or is_base64(inputs):
        hint = _ROWS_HINT if isinstance(inputs, list) and inputs and _is_row(inputs[0]) else ""
        if len(signature.inputs) > 1:
            wanted = "an object with the keys " + ", ".join(sorted(signature.inputs))
            refuse(
                Fault("inputs_plain", ("inputs",), wanted, described(inputs), facts={"hint": hint})
            )
        (spec,) = signature.inputs.values()
        return Tensors({spec.alias: tensor(inputs, spec, ("inputs",), hint=hint)}, False)
    arrays = {}
    for alias, spec in sorted(signature.inputs.items()):
        if alias not in inputs:
            others = [name for name in inputs.names() if name not in signature.inputs]
            facts = {"name": alias, "hint": f" (there is {others[0]})" if others else ""}
            missing = sorted(name for name in signature.inputs if name not in inputs)
            expected = (
                f"{asked_for(spec)} or a list"
                if len(missing) == 1
                else ", ".join(sorted(signature.inputs))
            )
            refuse(
                Fault(
                    "missing_input", ("inputs", alias), expected, missing_text(missing), facts=facts
                )
            )
        arrays[alias] = tensor(inputs[alias], spec, ("inputs", alias))
    return Tensors(
        arrays, False, True, tuple(name for name in inputs.names() if name not in arrays)
    )


def _regular_rows(rows: list[Any], signature: Signature) -> dict[str, np.ndarray] | None:
    """The same for rows of names, if each has the inputs once and in one order."""
    if set(map(type, rows)) != {JsonObject}:
        return None
    names = rows[0].names()
    if sorted(names) != sorted(signature.inputs) or any(row.names() != names for row in rows):
        return None
    arrays = {}
    for i, name in enumerate(names):
        array = regular([row.members[i][1] for row in rows], signature.inputs[name])
        if array is None:
            return None
        arrays[name] = array
    return arrays


def _is_row(value: Any) -> bool:
    return isinstance(value, JsonObject) and not is_base64(value)


def _shape_words(shape: Shape) -> str:
    return f"shape {shape_text(shape)}" if shape else "a single value"


def _plain_shape(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"
