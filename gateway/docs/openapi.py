"""The /v1/models paths as OpenAPI: they are served beside FastAPI and still belong in its document.

Each live model has paths of its own, with the schema of its signatures and requests that can be
sent as they are. Paths by version and by label are shown once, for any model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.bodies.binary import takes_npy, takes_picture
from gateway.bodies.media import Media
from gateway.check import CLASSIFY, REGRESS, takes_examples
from gateway.contracts import schema
from gateway.contracts.catalog import Catalog, Contract
from headrace.protocol import rest_paths
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import Signature

_Json = dict[str, Any]

_ERROR: _Json = {
    "type": "object",
    "required": ["error", "details", "request_id"],
    "properties": {
        "error": {
            "type": "string",
            "examples": ["instances[3]: shape (28, 27, 1), expected (28, 28, 1)"],
        },
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["kind"],
                "properties": {
                    "path": {"type": "string", "description": "JSON pointer into the body."},
                    "kind": {"type": "string"},
                    "expected": {"type": "string"},
                    "got": {"type": "string"},
                    "hint": {"type": "string"},
                },
            },
        },
        "request_id": {"type": "string"},
    },
}
_PROBLEM: _Json = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "details": _ERROR["properties"]["details"],
        "request_id": {"type": "string"},
    },
}
_REQUEST: _Json = {
    "type": "object",
    "description": "Rows in `instances`, or columns in `inputs`: exactly one of the two.",
    "properties": {
        "signature_name": {"type": "string", "default": "serving_default"},
        "instances": {
            "type": "array",
            "minItems": 1,
            "items": {},
            "description": (
                "One element a row: a value when the signature has one input, else an "
                "object by input name."
            ),
        },
        "inputs": {
            "description": (
                "A whole tensor when the signature has one input, else an object by input name."
            )
        },
    },
    "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
}
_ANSWER: _Json = {
    "type": "object",
    "properties": {
        "predictions": {
            "type": "array",
            "items": {},
            "description": "One element a row, for `instances`.",
        },
        "outputs": {"description": "A tensor, or an object by output name, for `inputs`."},
    },
}
_EXAMPLES: _Json = {
    "type": "object",
    "required": ["examples"],
    "properties": {
        "signature_name": {"type": "string"},
        "context": {"type": "object", "description": "Features that every example has."},
        "examples": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "description": "Features by name: a number, a string, or a list of them.",
            },
        },
    },
}
_RESULTS: _Json = {
    "type": "object",
    "required": ["results"],
    "properties": {"results": {"type": "array", "items": {}}},
}
_SCHEMAS = {
    "PredictRequest": _REQUEST,
    "PredictResponse": _ANSWER,
    "ExamplesRequest": _EXAMPLES,
    "ExamplesResponse": _RESULTS,
    "Error": _ERROR,
    "Problem": _PROBLEM,
}
_FAILURES = {
    "400": "The body does not fit the signature, or the label or signature is unknown.",
    "404": "The model or the version is unknown.",
    "406": "The answer cannot be written as the Accept header wants it.",
    "413": "The body is larger than HEADRACE_MAX_BODY_BYTES.",
    "415": "A Content-Type or Content-Encoding that is not taken here.",
    "503": "The serving backend is down, or the model is still loading.",
    "504": "The serving backend did not answer within HEADRACE_TIMEOUT_S.",
}
_MODEL: _Json = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
_VERSION: _Json = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}
_LABEL: _Json = {"name": "label", "in": "path", "required": True, "schema": {"type": "string"}}
_SIGNATURE: _Json = {
    "name": "Headrace-Signature",
    "in": "header",
    "description": "The signature for bodies that are not JSON.",
    "schema": {"type": "string"},
}
# What may stand behind a model's name, with the word for it.
_CHOICES = {"/versions/{version}": ("version", _VERSION), "/labels/{label}": ("label", _LABEL)}
_ANY_MODEL = "any model"
_PREDICT = "predict"
_SUMMARIES = {_PREDICT: "Predict", CLASSIFY: "Classify", REGRESS: "Regress"}


def key(catalog: Catalog) -> object:
    """What the document depends on: equal while it would be the same."""
    return tuple((name, id(model.latest)) for name, model in sorted(catalog.models.items()))


def extend(document: _Json, catalog: Catalog) -> _Json:
    """FastAPI's document with the paths of the REST door."""
    paths = dict(document["paths"])
    for name, model in sorted(catalog.models.items()):
        if model.latest is not None:
            paths.update(_model_paths(name, model.latest))
    for infix, (word, parameter) in _CHOICES.items():
        paths.update(_any_model_paths(infix, word, [_MODEL, parameter]))
    components = dict(document.get("components", {}))
    components["schemas"] = {**components.get("schemas", {}), **_SCHEMAS}
    return {**document, "paths": paths, "components": components}


def _model_paths(name: str, contract: Contract) -> _Json:
    base = rest_paths.path(ModelSpec(name))
    paths: _Json = {}
    for verb in _SUMMARIES:
        signatures = _signatures_for(verb, contract)
        if signatures:
            paths[f"{base}:{verb}"] = {"post": _call(name, contract, verb, signatures)}
    paths[base] = {"get": _description(name, "status", "State of every version.", [])}
    paths[f"{base}/metadata"] = {"get": _description(name, "metadata", "Signatures.", [])}
    paths[f"{base}/schema"] = {"get": _description(name, "schema", "JSON Schema.", [])}
    return paths


def _signatures_for(verb: str, contract: Contract) -> dict[str, Signature]:
    signatures = {}
    for name, signature in sorted(contract.callable.items()):
        if verb == _PREDICT:
            is_suitable = bool(signature.inputs)
        else:
            is_suitable = takes_examples(signature, verb)
        if is_suitable:
            signatures[name] = signature
    return signatures


def _call(name: str, contract: Contract, verb: str, signatures: Mapping[str, Signature]) -> _Json:
    requests: _Json = {Media.JSON.value: _json_request(contract, verb, signatures)}
    answers: _Json = {Media.JSON.value: {"schema": _answer_schema(verb, signatures)}}
    parameters = []
    if verb == _PREDICT:
        for media in _binary_media(signatures):
            requests[media.value] = {"schema": {}}
            parameters = [_SIGNATURE]
        for media in (Media.NPY, Media.NPZ):
            answers[media.value] = {"schema": {}}
    names = ", ".join(f"`{signature}`" for signature in signatures)
    operation: _Json = {
        "tags": [name],
        "operationId": f"{verb}:{name}",
        "summary": f"{_SUMMARIES[verb]} with {name}",
        "description": f"Checked against version {contract.version}. Signatures: {names}.",
        "requestBody": {"required": True, "content": requests},
        "responses": {
            "200": {"description": "The model's answer.", "content": answers},
            **_failures(*_FAILURES),
        },
    }
    if parameters:
        operation["parameters"] = parameters
    return operation


def _json_request(contract: Contract, verb: str, signatures: Mapping[str, Signature]) -> _Json:
    examples = {}
    for name in signatures:
        body = contract.samples.get(name)
        if body is not None and ("examples" in body) == (verb != _PREDICT):
            examples[name] = {"value": body}
    content: _Json = {}
    if verb == _PREDICT:
        content["schema"] = _any_of([schema.request(s) for s in signatures.values()])
    else:
        content["schema"] = _ref("ExamplesRequest")
    if examples:
        content["examples"] = examples
    return content


def _answer_schema(verb: str, signatures: Mapping[str, Signature]) -> _Json:
    if verb != _PREDICT:
        return _ref("ExamplesResponse")
    return _any_of([schema.response(signature) for signature in signatures.values()])


def _binary_media(signatures: Mapping[str, Signature]) -> list[Media]:
    """What a body may be beside JSON, for one signature or another."""
    media = []
    with_npy = [signature for signature in signatures.values() if takes_npy(signature)]
    if any(len(signature.inputs) == 1 for signature in with_npy):
        media.append(Media.NPY)
    if with_npy:
        media.append(Media.NPZ)
    if any(takes_picture(signature) for signature in signatures.values()):
        media += [Media.PNG, Media.JPEG]
    return media


def _any_model_paths(infix: str, word: str, parameters: list[_Json]) -> _Json:
    base = f"/v1/models/{{model}}{infix}"
    paths: _Json = {}
    for verb in _SUMMARIES:
        request, answer = "ExamplesRequest", "ExamplesResponse"
        if verb == _PREDICT:
            request, answer = "PredictRequest", "PredictResponse"
        operation = {
            "tags": [_ANY_MODEL],
            "operationId": f"{verb}_{word}",
            "summary": f"{_SUMMARIES[verb]} by {word}",
            "parameters": parameters,
            "requestBody": {
                "required": True,
                "content": {Media.JSON.value: {"schema": _ref(request)}},
            },
            "responses": {"200": _json("The model's answer.", answer), **_failures(*_FAILURES)},
        }
        paths[f"{base}:{verb}"] = {"post": operation}
    endings = {"/metadata": "Signatures", "/schema": "JSON Schema"}
    if word == "version":
        endings = {"": "State", **endings}
    for ending, what in endings.items():
        operation_id = f"{ending.strip('/') or 'status'}_{word}"
        summary = f"{what} by {word}"
        paths[base + ending] = {"get": _description(None, operation_id, summary, parameters)}
    return paths


def _description(model: str | None, operation: str, summary: str, parameters: list[_Json]) -> _Json:
    """A GET that describes this model, or with None any."""
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "tags": [_ANY_MODEL if model is None else model],
        "operationId": operation if model is None else f"{operation}:{model}",
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": summary, "content": content},
            **_failures("400", "404", "503", "504"),
        },
    }


def _any_of(schemas: list[_Json]) -> _Json:
    if len(schemas) == 1:
        return schemas[0]
    return {"anyOf": schemas}


def _failures(*codes: str) -> _Json:
    return {code: _json(_FAILURES[code], "Error", problem=True) for code in codes}


def _json(description: str, schema_name: str, *, problem: bool = False) -> _Json:
    content: _Json = {"application/json": {"schema": _ref(schema_name)}}
    if problem:
        content["application/problem+json"] = {"schema": _ref("Problem")}
    return {"description": description, "content": content}


def _ref(schema_name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema_name}"}
