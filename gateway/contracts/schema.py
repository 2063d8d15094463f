"""A signature as JSON Schema (2020-12): what a :predict body may be, and what its answer is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from gateway.contracts.catalog import Contract
from headrace.protocol import dtypes
from headrace.protocol.dtypes import DType
from headrace.protocol.signatures import DEFAULT_SIGNATURE, Shape, Signature, TensorSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_Schema = dict[str, Any]
_BASE64: _Schema = {
    "type": "object",
    "required": ["b64"],
    "properties": {
        "b64": {"type": "string", "contentEncoding": "base64"},
    },
    "additionalProperties": False,
}
_NOT_IN_JSON = (dtypes.HALF, dtypes.BFLOAT16, dtypes.COMPLEX64, dtypes.COMPLEX128, dtypes.UINT16)


def document(contract: Contract) -> bytes:
    """The body of GET /v1/models/NAME/schema."""
    schemas = {}
    for name, signature in sorted(contract.callable.items()):
        schemas[name] = {
            "request": {"$schema": DIALECT, **request(signature)},
            "response": {"$schema": DIALECT, **response(signature)},
        }
    body = {"model": contract.model, "version": contract.version, "signatures": schemas}
    return json.dumps(body, indent=2).encode()


def request(signature: Signature) -> _Schema:
    properties: _Schema = {"signature_name": {"const": signature.name}}
    forms = []
    row = _request_row(signature)
    if row is not None:
        properties["instances"] = {"type": "array", "minItems": 1, "items": row}
        forms.append({"required": ["instances"]})
    columns = {}
    for alias, spec in signature.inputs.items():
        columns[alias] = tensor(spec, spec.shape)
    properties["inputs"] = _named_or_alone(columns, signature.required)
    forms.append({"required": ["inputs"]})
    schema: _Schema = {"type": "object", "properties": properties}
    if signature.name != DEFAULT_SIGNATURE:
        schema["required"] = ["signature_name"]
    schema["oneOf"] = forms
    return schema


def response(signature: Signature) -> _Schema:
    rows, columns = {}, {}
    for alias, spec in signature.outputs.items():
        rows[alias] = tensor(spec, _row_shape(spec), is_answer=True)
        columns[alias] = tensor(spec, spec.shape, is_answer=True)
    return {
        "type": "object",
        "properties": {
            "predictions": {"type": "array", "items": _only_or_object(rows)},
            "outputs": _only_or_object(columns),
        },
        "oneOf": [
            {"required": ["predictions"]},
            {"required": ["outputs"]},
        ],
    }


def tensor(spec: TensorSpec, shape: Shape | None, *, is_answer: bool = False) -> _Schema:
    """Nested lists of this shape; anything, where the rank is not known."""
    if spec.dtype is None or spec.dtype in _NOT_IN_JSON:
        name = spec.dtype or spec.dtype_number
        return {"not": {}, "description": f"{name} does not travel as JSON"}
    if shape is None:
        return {"description": f"{spec.dtype}, of any shape"}
    schema = _element(spec.dtype)
    if is_answer and spec.dtype is dtypes.STRING:
        schema = _answered_text(spec)
    for size in reversed(shape):
        schema = {"type": "array", "items": schema}
        if size >= 0:
            schema["minItems"] = size
            schema["maxItems"] = size
    return {**schema, "description": f"{spec.dtype} {spec.shape_text}"}


def _request_row(signature: Signature) -> _Schema | None:
    """One instance; None where an input has no first dimension to cut along."""
    cells = {}
    for alias, spec in signature.inputs.items():
        if spec.shape == ():
            return None
        cells[alias] = tensor(spec, _row_shape(spec))
    if not cells:
        return None
    return _named_or_alone(cells, tuple(cells))


def _row_shape(spec: TensorSpec) -> Shape | None:
    return None if spec.shape is None else spec.shape[1:]


def _named_or_alone(values: Mapping[str, _Schema], required: tuple[str, ...]) -> _Schema:
    """By name; a single one may also stand without its name."""
    by_name = _object(values, required)
    if len(values) != 1:
        return by_name
    (value,) = values.values()
    return {"anyOf": [value, by_name]}


def _only_or_object(values: Mapping[str, _Schema]) -> _Schema:
    """By name; a single one stands alone, as answers have it."""
    if len(values) != 1:
        return _object(values, tuple(values))
    (value,) = values.values()
    return value


def _object(values: Mapping[str, _Schema], required: tuple[str, ...]) -> _Schema:
    return {
        "type": "object",
        "properties": dict(values),
        "required": list(required),
        "additionalProperties": False,
    }


def _element(dtype: DType) -> _Schema:
    if dtype is dtypes.STRING:
        return {"anyOf": [{"type": "string"}, _BASE64]}
    if dtype is dtypes.BOOL:
        return {"type": "boolean"}
    if dtype.numpy.kind in "iu":
        limits = np.iinfo(dtype.numpy)
        return {
            "type": "integer",
            "minimum": int(limits.min),
            "maximum": int(limits.max),
        }
    return {"type": "number"}


def _answered_text(spec: TensorSpec) -> _Schema:
    """The backend answers with base64 when the output's name says that it is bytes."""
    if spec.alias.endswith("_bytes"):
        return _BASE64
    return {"type": "string"}
