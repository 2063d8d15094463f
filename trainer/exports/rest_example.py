"""A golden request as a REST call: what to send where, and the answer that belongs to it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from headrace.protocol import messages
from headrace.store.golden import GoldenRequest

# TensorFlow Serving answers outputs of such names in base64, and all other strings as text.
_BYTES_SUFFIX = "_bytes"


@dataclass(frozen=True, slots=True)
class RestExample:
    """``method`` is the last word of the address: predict, classify or regress."""

    method: str
    body: Mapping[str, Any]
    answer: Mapping[str, Any]


def from_golden(request: GoldenRequest, method: str) -> RestExample:
    """``method`` is that of the request's signature, from the model card."""
    body: dict[str, Any] = {}
    if request.signature_name != "serving_default":
        body["signature_name"] = request.signature_name
    if method == "predict":
        body["inputs"] = _without_single_name(_text_inputs(request.inputs))
        outputs = _without_single_name(_text_outputs(request.outputs))
        return RestExample(method, body, {"outputs": outputs})

    body["examples"] = _examples(request.inputs["inputs"])
    if method == "classify":
        results = _classifications(request.outputs)
    else:
        results = [_number(value) for value in request.outputs["outputs"]]
    return RestExample(method, body, {"results": results})


def first_row(request: GoldenRequest) -> GoldenRequest:
    """The same request for its first row alone.

    That is possible because rows are independent in every signature of the zoo.
    """
    return replace(
        request,
        inputs=_first_rows(request.inputs),
        outputs=_first_rows(request.outputs),
    )


def _first_rows(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {alias: rows[:1] for alias, rows in tensors.items()}


def _without_single_name(tensors: Mapping[str, Any]) -> Any:
    """TensorFlow Serving leaves the name of a single tensor out."""
    if len(tensors) == 1:
        (value,) = tensors.values()
        return value
    return tensors


def _text_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {alias: _as_text(value) for alias, value in inputs.items()}


def _text_outputs(outputs: Mapping[str, Any]) -> dict[str, Any]:
    tensors = dict(outputs)
    for alias, value in outputs.items():
        if not alias.endswith(_BYTES_SUFFIX):
            tensors[alias] = _as_text(value)
    return tensors


def _as_text(value: Any) -> Any:
    """Base64 of readable text becomes that text."""
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    try:
        text = _text(value)
    except UnicodeDecodeError:
        return value
    if not text.isprintable():
        return value
    return text


def _examples(values: list[Any]) -> list[dict[str, Any]]:
    """Serialized tf.Examples in base64, as the features that REST calls them by."""
    examples = []
    for value in values:
        serialized = base64.b64decode(value["b64"])
        message = messages.parse(messages.Example, serialized)
        examples.append(_features(message))
    return examples


def _features(example: Any) -> dict[str, Any]:
    features = {}
    for name, feature in sorted(example.features.feature.items()):
        values = _feature_values(feature)
        if len(values) == 1:
            features[name] = values[0]
        else:
            features[name] = values
    return features


def _feature_values(feature: Any) -> list[Any]:
    kind = feature.WhichOneof("kind")
    if kind is None:
        return []
    values = []
    for value in getattr(feature, kind).value:
        if isinstance(value, bytes):
            value = value.decode()
        values.append(value)
    return values


def _classifications(outputs: Mapping[str, Any]) -> list[Any]:
    """Row by row, pairs of label and score.

    A signature may give only one of them; TensorFlow Serving then leaves the other empty.
    """
    scores = outputs.get("scores")
    labels = outputs.get("classes")
    rows = []
    for row_index, row in enumerate(scores or labels or ()):
        pairs = []
        for index in range(len(row)):
            label, score = "", 0.0
            if labels:
                label = _text(labels[row_index][index])
            if scores:
                score = scores[row_index][index]
            pairs.append([label, score])
        rows.append(pairs)
    return rows


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        content = base64.b64decode(value["b64"])
        return content.decode()
    return str(value)


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return value[0]
    return value
