"""The /v1/models paths in OpenAPI words: they are served beside FastAPI, and still belong in its document."""

from __future__ import annotations

from typing import Any

_ERROR = {
    "type": "object",
    "required": ["error", "details"],
    "properties": {
        "error": {"type": "string", "examples": ["instances[3]: shape (28, 27, 1), expected (28, 28, 1)"]},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "JSON pointer into the body."},
                    "expected": {},
                    "got": {},
                },
            },
        },
    },
}
_REQUEST = {
    "type": "object",
    "description": "Rows in `instances`, or columns in `inputs`: exactly one of the two.",
    "properties": {
        "signature_name": {"type": "string", "default": "serving_default"},
        "instances": {
            "type": "array",
            "minItems": 1,
            "items": {},
            "description": "One element a row: a value when the signature has one input, else an object by input name.",
        },
        "inputs": {"description": "A whole tensor when the signature has one input, else an object by input name."},
    },
    "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
}
_ANSWER = {
    "type": "object",
    "properties": {
        "predictions": {"type": "array", "items": {}, "description": "One element a row, for `instances`."},
        "outputs": {"description": "A tensor, or an object by output name, for `inputs`."},
    },
}
_EXAMPLE = {"instances": [1.0, 2.0, 5.0]}
_FAILURES = {
    "400": "The body does not fit the signature, or the label or signature is unknown.",
    "404": "The model or the version is unknown.",
    "413": "The body is larger than HEADRACE_MAX_BODY_BYTES.",
    "503": "The serving backend is down, or the model is still loading.",
    "504": "The serving backend did not answer within HEADRACE_TIMEOUT_S.",
}
_MODEL = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
_VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
_LABEL = {"name": "label", "in": "path", "required": True, "schema": {"type": "string"}}
_WHICH: tuple[tuple[str, str, list[dict[str, Any]]], ...] = (
    ("", "", [_MODEL]),
    ("/versions/{version}", "_version", [_MODEL, _VERSION]),
    ("/labels/{label}", "_label", [_MODEL, _LABEL]),
)


def extend(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with the paths of the REST door."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(PredictRequest=_REQUEST, PredictResponse=_ANSWER, Error=_ERROR)
    for which, suffix, parameters in _WHICH:
        document["paths"][f"/v1/models/{{model}}{which}:predict"] = {"post": _predict(suffix, parameters)}
        if which != "/labels/{label}":
            document["paths"][f"/v1/models/{{model}}{which}"] = {
                "get": _about("status", suffix, parameters, "State of every version, or of one.")
            }
        document["paths"][f"/v1/models/{{model}}{which}/metadata"] = {
            "get": _about("metadata", suffix, parameters, "Signatures of a version.")
        }
    return document


def _predict(suffix: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "tags": ["models"],
        "operationId": f"predict{suffix}",
        "summary": "Run a model on one body of rows or columns.",
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref("PredictRequest"), "example": _EXAMPLE}},
        },
        "responses": {"200": _json("The model's answer.", "PredictResponse"), **_failures(*_FAILURES)},
    }


def _about(what: str, suffix: str, parameters: list[dict[str, Any]], summary: str) -> dict[str, Any]:
    return {
        "tags": ["models"],
        "operationId": f"{what}{suffix}",
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": summary, "content": {"application/json": {"schema": {"type": "object"}}}},
            **_failures("404", "503", "504"),
        },
    }


def _failures(*codes: str) -> dict[str, Any]:
    return {code: _json(_FAILURES[code], "Error") for code in codes}


def _json(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _ref(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}
