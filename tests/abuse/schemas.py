"""What is an OpenAPI document for the embedded server, which has none of its own: its few paths, by
hand."""

from __future__ import annotations

from typing import Any

_NAME = {
    "name": "model",
    "in": "path",
    "required": True,
    "schema": {"anyOf": [{"const": "half_plus_two"}, {"type": "string"}]},
}
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"anyOf": [{"const": 123}, {"type": "integer"}]},
}
_LABEL = {"name": "label", "in": "path", "required": True, "schema": {"type": "string"}}
_VALUE: dict[str, Any] = {
    "anyOf": [
        {"type": ["number", "string", "boolean", "null"]},
        {"type": "array", "items": {"type": ["number", "array", "object", "null"]}},
        {
            "type": "object",
            "properties": {"x": {"type": ["number", "array"]}, "b64": {"type": "string"}},
        },
    ]
}
_SIGNATURE = {"enum": ["serving_default", "regress_x_to_y", "classify_x_to_y", "", "nobody"]}
_PREDICT = {
    "type": "object",
    "properties": {
        "instances": {"type": "array", "items": _VALUE},
        "inputs": _VALUE,
        "signature_name": _SIGNATURE,
    },
    "anyOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
}
_EXAMPLES = {
    "type": "object",
    "properties": {
        "examples": {"type": "array", "items": {"type": "object", "additionalProperties": _VALUE}},
        "context": {"type": "object", "additionalProperties": _VALUE},
        "signature_name": _SIGNATURE,
    },
    "required": ["examples"],
}
_WHICH: tuple[tuple[str, list[dict[str, Any]]], ...] = (
    ("", []),
    ("/versions/{version}", [_VERSION]),
    ("/labels/{label}", [_LABEL]),
)


def server() -> dict[str, Any]:
    paths: dict[str, Any] = {"/v1/models": {"get": _operation([])}}
    for which, parameters in _WHICH:
        given = [_NAME, *parameters]
        base = f"/v1/models/{{model}}{which}"
        paths[base] = {"get": _operation(given)}
        paths[f"{base}/metadata"] = {"get": _operation(given)}
        for verb, body in (("predict", _PREDICT), ("classify", _EXAMPLES), ("regress", _EXAMPLES)):
            paths[f"{base}:{verb}"] = {"post": _operation(given, body)}
    return {"openapi": "3.1.0", "info": {"title": "headrace serve", "version": "1"}, "paths": paths}


def _operation(
    parameters: list[dict[str, Any]], body: dict[str, Any] | None = None
) -> dict[str, Any]:
    content = (
        {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}}
        if body
        else {}
    )
    return {"parameters": parameters, "responses": {"default": {"description": "any"}}, **content}
