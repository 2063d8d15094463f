"""A signature as JSON Schema (2020-12): what a :predict body may be, and what the answer is."""

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
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "additionalProperties": False,
}
_IN_JSON_NOT = (dtypes.HALF, dtypes.BFLOAT16, dtypes.COMPLEX64, dtypes.COMPLEX128, dtypes.UINT16)


def document(contract: Contract) -> bytes:
    """The body of GET /v1/models/NAME/schema."""
    signatures = {
        name: {
            "request": {"$schema": DIALECT, **request(s)},
            "response": {"$schema": DIALECT, **response(s)},
        }
        for name, s in sorted(contract.callable.items())
    }
    return json.dumps(
        {"model": contract.model, "version": contract.version, "signatures": signatures}, indent=2
    ).encode()


def request(signature: Signature) -> _Schema:
    named = signature.name != DEFAULT_SIGNATURE
    properties: _Schema = {"signature_name": {"const": signature.name}}
    forms = []
    if rows := _rows(signature):
        properties["instances"] = {"type": "array", "minItems": 1, "items": rows}
        forms.append({"required": ["instances"]})
    properties["inputs"] = _named(
        {a: tensor(s, s.shape) for a, s in signature.inputs.items()}, signature.required
    )
    forms.append({"required": ["inputs"]})
    return {
        "type": "object",
        "properties": properties,
        **({"required": ["signature_name"]} if named else {}),
        "oneOf": forms,
    }


def response(signature: Signature) -> _Schema:
    columns = {a: tensor(s, s.shape, is_answer=True) for a, s in signature.outputs.items()}
    rows = {
        a: tensor(s, None if s.shape is None else s.shape[1:], is_answer=True)
        for a, s in signature.outputs.items()
    }
    alone = len(signature.outputs) == 1
    row = next(iter(rows.values())) if alone else _object(rows, tuple(rows))
    column = next(iter(columns.values())) if alone else _object(columns, tuple(columns))
    return {
        "type": "object",
        "properties": {"predictions": {"type": "array", "items": row}, "outputs": column},
        "oneOf": [{"required": ["predictions"]}, {"required": ["outputs"]}],
    }


def tensor(spec: TensorSpec, shape: Shape | None, *, is_answer: bool = False) -> _Schema:
    """Nested lists of this shape; anything, where the rank is not known."""
    if spec.dtype is None or spec.dtype in _IN_JSON_NOT:
        return {
            "not": {},
            "description": f"{spec.dtype or spec.dtype_number} does not travel as JSON",
        }
    if shape is None:
        return {"description": f"{spec.dtype}, of any shape"}
    schema = _answer(spec) if is_answer else _element(spec.dtype)
    for size in reversed(shape):
        bounds = {} if size < 0 else {"minItems": size, "maxItems": size}
        schema = {"type": "array", **bounds, "items": schema}
    return {**schema, "description": f"{spec.dtype} {spec.shape_text}"}


def _rows(signature: Signature) -> _Schema:
    """One instance; nothing where an input has no first dimension to cut along."""
    if not signature.inputs or any(s.shape == () for s in signature.inputs.values()):
        return {}
    cells = {
        a: tensor(s, None if s.shape is None else s.shape[1:]) for a, s in signature.inputs.items()
    }
    return _named(cells, tuple(cells))


def _named(values: Mapping[str, _Schema], required: tuple[str, ...]) -> _Schema:
    """By name; where there is one name, without it too."""
    whole = _object(values, required)
    return {"anyOf": [next(iter(values.values())), whole]} if len(values) == 1 else whole


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
        return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    return {"type": "number"}


def _answer(spec: TensorSpec) -> _Schema:
    assert spec.dtype is not None
    if spec.dtype is dtypes.STRING:
        return _BASE64 if spec.alias.endswith("_bytes") else {"type": "string"}
    return _element(spec.dtype)
