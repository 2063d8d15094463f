"""A golden request as a call by REST: what to send where, and the answer that belongs to it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.protocol import messages
from trainer.exports.golden import Golden

# Outputs of such names are base64 in TensorFlow Serving's answers, others text.
_BYTES = "_bytes"


@dataclass(frozen=True, slots=True)
class Call:
    """``method`` is the last word of the address: predict, classify or regress."""

    method: str
    body: Mapping[str, Any]
    answer: Mapping[str, Any]


def call(request: Golden, method: str) -> Call:
    """``method`` as the card says it of the request's signature."""
    named = (
        {}
        if request["signature_name"] == "serving_default"
        else {"signature_name": request["signature_name"]}
    )
    outputs = request["outputs"]
    if method == "predict":
        inputs = {alias: _plain(value) for alias, value in request["inputs"].items()}
        told = {
            alias: value if alias.endswith(_BYTES) else _plain(value)
            for alias, value in outputs.items()
        }
        return Call(method, {**named, "inputs": _unnamed(inputs)}, {"outputs": _unnamed(told)})
    examples = [
        _features(base64.b64decode(example["b64"])) for example in request["inputs"]["inputs"]
    ]
    results = (
        _classes(outputs)
        if method == "classify"
        else [_number(value) for value in outputs["outputs"]]
    )
    return Call(method, {**named, "examples": examples}, {"results": results})


def first_row(request: Golden) -> Golden:
    """The same request for one row alone; rows are independent in every signature of the zoo."""
    sides = {
        side: {alias: rows[:1] for alias, rows in request[side].items()}
        for side in ("inputs", "outputs")
    }
    return {**request, **sides}


def _unnamed(tensors: Mapping[str, Any]) -> Any:
    return next(iter(tensors.values())) if len(tensors) == 1 else tensors


def _plain(value: Any) -> Any:
    """Bytes that are readable text as text."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    try:
        text = _text(value)
    except UnicodeDecodeError:
        return value
    return text if text.isprintable() else value


def _features(example: bytes) -> dict[str, Any]:
    found = {}
    for name, feature in messages.parse(messages.Example, example).features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        texts = [value.decode() if isinstance(value, bytes) else value for value in values]
        found[name] = texts[0] if len(texts) == 1 else texts
    return dict(sorted(found.items()))


def _classes(outputs: Mapping[str, Any]) -> list[list[list[Any]]]:
    """Pairs of label and score, row by row; what a signature does not give is empty, as TensorFlow
    Serving has it."""
    scores, labels = outputs.get("scores"), outputs.get("classes")
    rows = range(len(scores or labels or ()))
    columns = range(len((scores or labels or [[]])[0]))
    return [
        [
            [_text(labels[row][at]) if labels else "", scores[row][at] if scores else 0.0]
            for at in columns
        ]
        for row in rows
    ]


def _text(value: Any) -> str:
    return base64.b64decode(value["b64"]).decode() if isinstance(value, Mapping) else str(value)


def _number(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value
