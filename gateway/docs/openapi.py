"""The /v1/models paths in OpenAPI words: they are served beside FastAPI, and still belong in its
document.

Each live model has paths of its own, with the schema of its signatures and requests that run as
they stand; versions and labels are shown once, for any model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.bodies.binary import takes_npy, takes_picture
from gateway.bodies.media import Media
from gateway.check import CLASSIFY, REGRESS, takes_examples
from gateway.contracts import schema
from gateway.contracts.catalog import Catalog, Contract, Model
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
_WHICH = {"/versions/{version}": ("version", _VERSION), "/labels/{label}": ("label", _LABEL)}
_ANY = "any model"


def key(catalog: Catalog) -> object:
    """What the document depends on: equal while it would be the same."""
    return tuple((name, id(model.latest)) for name, model in sorted(catalog.models.items()))


def extend(document: _Json, catalog: Catalog) -> _Json:
    """FastAPI's document with the paths of the REST door."""
    components = {**document.get("components", {})}
    components["schemas"] = {**components.get("schemas", {}), **_SCHEMAS}
    paths = {**document["paths"]}
    for name, model in sorted(catalog.models.items()):
        if model.latest is not None:
            paths.update(_model_paths(name, model, model.latest))
    for which, (word, parameter) in _WHICH.items():
        paths.update(_any_paths(which, word, [_MODEL, parameter]))
    return {**document, "paths": paths, "components": components}


def _model_paths(name: str, model: Model, contract: Contract) -> _Json:
    base = rest_paths.path(ModelSpec(name))
    by_verb: dict[str, dict[str, Signature]] = {"predict": {}, CLASSIFY: {}, REGRESS: {}}
    for key_, signature in sorted(contract.callable.items()):
        for verb in (CLASSIFY, REGRESS):
            if takes_examples(signature, verb):
                by_verb[verb][key_] = signature
        if signature.inputs:
            by_verb["predict"][key_] = signature
    paths = {
        f"{base}:{verb}": {"post": _call(name, contract, verb, s)}
        for verb, s in by_verb.items()
        if s
    }
    for end, summary in (
        ("", "State of every version."),
        ("/metadata", "Signatures."),
        ("/schema", "JSON Schema."),
    ):
        paths[base + end] = {"get": _about(name, end.strip("/") or "status", summary, [])}
    return paths


def _call(name: str, contract: Contract, verb: str, signatures: Mapping[str, Signature]) -> _Json:
    examples = {
        s: {"value": body} for s in signatures if (body := _sample(contract, s, verb)) is not None
    }
    if verb == "predict":
        wanted = _one_of([schema.request(s) for s in signatures.values()])
        answer = _one_of([schema.response(s) for s in signatures.values()])
    else:
        wanted, answer = _ref("ExamplesRequest"), _ref("ExamplesResponse")
    content: _Json = {
        Media.JSON.value: {"schema": wanted, **({"examples": examples} if examples else {})}
    }
    answers: _Json = {Media.JSON.value: {"schema": answer}}
    binary = [m for m in _binary(signatures)] if verb == "predict" else []
    content.update((media.value, {"schema": {}}) for media in binary)
    if verb == "predict":
        answers.update((media.value, {"schema": {}}) for media in (Media.NPY, Media.NPZ))
    told = ", ".join(f"`{s}`" for s in signatures)
    return {
        "tags": [name],
        "operationId": f"{verb}:{name}",
        "summary": {"predict": "Predict", CLASSIFY: "Classify", REGRESS: "Regress"}[verb]
        + f" with {name}",
        "description": f"Checked against version {contract.version}. Signatures: {told}.",
        **({"parameters": [_SIGNATURE]} if binary else {}),
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": "The model's answer.", "content": answers},
            **_failures(*_FAILURES),
        },
    }


def _sample(contract: Contract, signature: str, verb: str) -> Mapping[str, Any] | None:
    body = contract.samples.get(signature)
    return body if body is not None and ("examples" in body) == (verb != "predict") else None


def _binary(signatures: Mapping[str, Signature]) -> list[Media]:
    found = []
    if any(takes_npy(s) and len(s.inputs) == 1 for s in signatures.values()):
        found.append(Media.NPY)
    if any(takes_npy(s) for s in signatures.values()):
        found.append(Media.NPZ)
    if any(takes_picture(s) for s in signatures.values()):
        found += [Media.PNG, Media.JPEG]
    return found


def _any_paths(which: str, word: str, parameters: list[_Json]) -> _Json:
    base = f"/v1/models/{{model}}{which}"
    paths: _Json = {}
    for verb, request, answer in (
        ("predict", "PredictRequest", "PredictResponse"),
        (CLASSIFY, "ExamplesRequest", "ExamplesResponse"),
        (REGRESS, "ExamplesRequest", "ExamplesResponse"),
    ):
        paths[f"{base}:{verb}"] = {
            "post": {
                "tags": [_ANY],
                "operationId": f"{verb}_{word}",
                "summary": f"{verb.capitalize()} by {word}",
                "parameters": parameters,
                "requestBody": {
                    "required": True,
                    "content": {Media.JSON.value: {"schema": _ref(request)}},
                },
                "responses": {"200": _json("The model's answer.", answer), **_failures(*_FAILURES)},
            }
        }
    for end, what in (("", "State"), ("/metadata", "Signatures"), ("/schema", "JSON Schema")):
        if end or word == "version":
            paths[base + end] = {
                "get": _about(
                    _ANY, f"{end.strip('/') or 'status'}_{word}", f"{what} by {word}", parameters
                )
            }
    return paths


def _about(tag: str, operation: str, summary: str, parameters: list[_Json]) -> _Json:
    return {
        "tags": [tag],
        "operationId": operation if tag == _ANY else f"{operation}:{tag}",
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {
                "description": summary,
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            **_failures("400", "404", "503", "504"),
        },
    }


def _one_of(schemas: list[_Json]) -> _Json:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _failures(*codes: str) -> _Json:
    return {code: _json(_FAILURES[code], "Error", problem=True) for code in codes}


def _json(description: str, schema_name: str, *, problem: bool = False) -> _Json:
    content: _Json = {"application/json": {"schema": _ref(schema_name)}}
    if problem:
        content["application/problem+json"] = {"schema": _ref("Problem")}
    return {"description": description, "content": content}


def _ref(schema_name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema_name}"}
