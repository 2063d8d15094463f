"""The first element of a :predict body that a signature's shapes forbid, for those who know the
shapes.

The reader takes the first row's shape for every row's, as TensorFlow Serving does; so it blames the
second row when the first is the odd one. Here the signature says which is which.
"""

from __future__ import annotations

from typing import Any

from headrace.codec.json.rapidjson import JsonObject
from headrace.codec.values import dense_shape, filled, is_base64
from headrace.protocol.faults import JsonPath
from headrace.protocol.refusals import refuse_fault
from headrace.protocol.signatures import Shape, Signature, TensorSpec, fits, misfit


def refuse_first(body: JsonObject, signature: Signature) -> None:
    """Raises the first misfit in the order of the text; returns where names are wrong, which the
    reader tells."""
    if "instances" in body and isinstance(body["instances"], list):
        _rows(body["instances"], signature)
    elif "inputs" in body:
        _columns(body["inputs"], signature)


def _rows(rows: list[Any], signature: Signature) -> None:
    known: dict[str, Shape] = {}
    for i, row in enumerate(rows):
        is_named = _is_named(row)
        if not is_named and len(signature.inputs) > 1:
            return
        if is_named != _is_named(rows[0]):
            return
        cells = row.members if is_named else [(next(iter(signature.inputs)), row)]
        if is_named and sorted(row.names()) != sorted(signature.inputs):
            return
        for name, value in cells:
            spec = signature.inputs[name]
            wanted = known.get(name) or (spec.shape[1:] if spec.shape else None)
            place: JsonPath = ("instances", i, name) if is_named else ("instances", i)
            shape = _value(value, spec, place, wanted, rows=len(rows))
            if spec.shape:
                known[name] = shape


def _columns(inputs: Any, signature: Signature) -> None:
    if not _is_named(inputs):
        is_rows = isinstance(inputs, list) and inputs and _is_named(inputs[0])
        if len(signature.inputs) == 1 and not is_rows:
            (spec,) = signature.inputs.values()
            _value(inputs, spec, ("inputs",), spec.shape)
        return
    for name, value in inputs.members:
        if (spec_of := signature.inputs.get(name)) is not None:
            _value(value, spec_of, ("inputs", name), spec_of.shape)


def _value(
    value: Any, spec: TensorSpec, place: JsonPath, wanted: Shape | None, *, rows: int | None = None
) -> Shape:
    shape = dense_shape(value)
    if wanted is not None and not fits(shape, wanted):
        if not isinstance(value, list):
            # "a" where a list of numbers should be: the kind is told first.
            filled(value, spec, place, {})
        refuse_fault(misfit(place, shape, wanted, rows=rows))
    filled(value, spec, place, {})
    return shape


def _is_named(value: Any) -> bool:
    return isinstance(value, JsonObject) and not is_base64(value)
