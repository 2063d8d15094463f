"""The first element of a :predict body that a signature's shapes forbid, for those who know the
shapes.

The reader takes the first row's shape for every row's, as TensorFlow Serving does; so it blames the
second row when the first is the odd one. Here the signature says which is which.
"""

from __future__ import annotations

from typing import Any

from headrace.codec.arrays import cells, is_named
from headrace.codec.json.rapidjson import JsonObject
from headrace.codec.values import dense_shape, filled
from headrace.protocol.faults import JsonPath
from headrace.protocol.refusals import refuse_fault
from headrace.protocol.signatures import Shape, Signature, TensorSpec, fits, misfit


def refuse_first(body: JsonObject, signature: Signature) -> None:
    """Raises the first misfit in the order of the text, or what else is wrong with the rows before
    it."""
    rows = None
    if "instances" in body:
        rows = body["instances"]
    if isinstance(rows, list) and rows:
        _rows(rows, signature)
    elif "inputs" in body:
        _columns(body["inputs"], signature)


def _rows(rows: list[Any], signature: Signature) -> None:
    known: dict[str, Shape] = {}
    for alias, value, i, key in cells(rows, signature):
        spec = signature.inputs[alias]
        place: JsonPath = ("instances", i)
        if key is not None:
            place = ("instances", i, key)

        promised = known.get(alias)
        if not promised and spec.shape:
            promised = spec.shape[1:]
        shape = _value(value, spec, place, promised, rows=len(rows))
        if spec.shape:
            known[alias] = shape


def _columns(inputs: Any, signature: Signature) -> None:
    if is_named(inputs):
        for name, value in inputs.members:
            spec = signature.inputs.get(name)
            if spec is not None:
                _value(value, spec, ("inputs", name), spec.shape)
        return
    is_rows = isinstance(inputs, list) and inputs and is_named(inputs[0])
    if len(signature.inputs) == 1 and not is_rows:
        (spec,) = signature.inputs.values()
        _value(inputs, spec, ("inputs",), spec.shape)


def _value(
    value: Any,
    spec: TensorSpec,
    place: JsonPath,
    promised: Shape | None,
    *,
    rows: int | None = None,
) -> Shape:
    shape = dense_shape(value)
    if promised is not None and not fits(shape, promised):
        if not isinstance(value, list):
            # "a" where a list of numbers should be: the kind is told first.
            filled(value, spec, place, {})
        refuse_fault(misfit(place, shape, promised, rows=rows))
    filled(value, spec, place, {})
    return shape
