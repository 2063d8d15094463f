"""A request for each signature that can be sent as it is: one that came with the version, else one
made up from the signature.

A version may bring golden requests (the trainer's, as REST bodies) or warm-up requests (TensorFlow
Serving's, as recorded calls). Either counts only when it passes the check that calls pass.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from headrace.codec import placeholders, predict
from headrace.protocol import messages, signatures, tensors
from headrace.protocol.errors import HeadraceError
from headrace.protocol.signatures import DEFAULT_SIGNATURE, Signature
from headrace.store import golden, records

log = logging.getLogger("gateway")

Body = Mapping[str, Any]
# Signature name -> body.
Samples = Mapping[str, Body]

_WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
_MAX_FILE_BYTES = 32 * 2**20
_MAX_RECORDS = 64
_MAX_SAMPLE_BYTES = 64 * 2**10
_EXAMPLES_LOGS = ("classify_log", "regress_log")
# Whatever a file that somebody else wrote may do to its reader.
_READ_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    HeadraceError,
)


def for_signatures(known: Mapping[str, Signature], folder: Path | None) -> Samples:
    """``folder`` is the version's; None where the store cannot be read."""
    samples: dict[str, Body] = {}
    if folder is not None:
        for name, body in _recorded(folder):
            is_wanted = name in known and name not in samples
            if is_wanted and _is_valid(body, known[name]):
                samples[name] = body
    for name, signature in known.items():
        if name in samples:
            continue
        placeholder = _placeholder(signature)
        if placeholder is not None:
            samples[name] = placeholder
    return samples


def _placeholder(signature: Signature) -> Body | None:
    """None where JSON has no such values, where the body would be long, and for examples, whose
    features no signature names."""
    is_for_predict = signature.method_name.endswith("/predict")
    takes_examples = list(signature.inputs) == ["inputs"] and not is_for_predict
    if not signature.inputs or takes_examples:
        return None
    # An element takes two bytes at the least: a digit and a comma.
    arrays = placeholders.inputs(signature, max_elements=_MAX_SAMPLE_BYTES // 2)
    if arrays is None:
        return None
    is_one_row = all(array.ndim and len(array) == 1 for array in arrays.values())
    try:
        text = predict.build_predict(
            arrays, signature_name=signature.name, row_format=is_one_row, signature=signature
        )
    except HeadraceError:
        # Of a dtype that JSON has no values for.
        return None
    body: dict[str, Any] = json.loads(_with_plain_text(text))
    if body.get("signature_name") == DEFAULT_SIGNATURE:
        del body["signature_name"]
    return body


def _with_plain_text(body: bytes) -> bytes:
    """The placeholder text as people write it."""
    return body.replace(b'{"b64":"ZXhhbXBsZQ=="}', b'"%b"' % placeholders.TEXT)


def _recorded(folder: Path) -> Iterator[tuple[str, Body]]:
    try:
        yield from _golden(folder)
        yield from _warmup(folder / _WARMUP_FILE)
    except _READ_ERRORS as error:
        log.warning(
            "requests beside a model cannot be read",
            extra={"version": str(folder), "reason": str(error)},
        )


def _golden(folder: Path) -> Iterator[tuple[str, Body]]:
    for request in golden.read(folder, max_bytes=_MAX_FILE_BYTES):
        name, inputs = request.signature_name, request.inputs
        # A row is enough to show. Whether the inputs are rows at all, the check says.
        yield name, _body(name, instances=[_first_row(inputs)])
        yield name, _body(name, inputs=inputs)


def _warmup(path: Path) -> Iterator[tuple[str, Body]]:
    if not _is_readable(path):
        return
    with path.open("rb") as file:
        for data in islice(records.read(file), _MAX_RECORDS):
            record = messages.parse(messages.PredictionLog, data)
            kind = record.WhichOneof("log_type")
            if kind == "predict_log":
                yield _predict_record(record.predict_log.request)
            elif kind in _EXAMPLES_LOGS:
                request = getattr(record, kind).request
                examples = request.input.example_list.examples
                if examples:
                    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
                    yield name, _body(name, examples=[_features(examples[0])])


def _predict_record(request: Any) -> tuple[str, Body]:
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    arrays: dict[str, np.ndarray] = {}
    for alias, tensor in request.inputs.items():
        arrays[alias] = tensors.from_proto(tensor)
    return name, json.loads(predict.build_predict(arrays, signature_name=name))


def _first_row(columns: Mapping[str, Any]) -> Any:
    row = {}
    for alias, column in columns.items():
        if isinstance(column, list) and column:
            row[alias] = column[0]
        else:
            row[alias] = column
    if len(row) != 1:
        return row
    (cell,) = row.values()
    return cell


def _body(signature_name: str, **members: Any) -> Body:
    if signature_name == DEFAULT_SIGNATURE:
        return members
    return {"signature_name": signature_name, **members}


def _features(example: Any) -> dict[str, list[Any]]:
    features: dict[str, list[Any]] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind is None:
            features[name] = []
        elif kind == "bytes_list":
            features[name] = [value.decode("utf-8") for value in feature.bytes_list.value]
        else:
            features[name] = list(getattr(feature, kind).value)
    return features


def _is_valid(body: Body, signature: Signature) -> bool:
    """Whether the body is short and passes the check that calls pass."""
    text = json.dumps(body).encode()
    if len(text) > _MAX_SAMPLE_BYTES:
        return False
    if "examples" in body:
        return True
    try:
        values = predict.parse_predict(text).tensors(signature)
        signatures.check(signature, values.shapes(signature), row_format=values.row_format)
    except HeadraceError:
        return False
    return True


def _is_readable(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size <= _MAX_FILE_BYTES
    except OSError:
        return False
