"""A request for each signature that runs as it stands: from what the model's version brings, else
made from its shapes.

A version may bring golden requests (the trainer's, as REST bodies) or warm-up requests (TensorFlow
Serving's, as recorded calls). Either counts only once it has passed the check that calls pass.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from headrace.codec import predict
from headrace.protocol import dtypes, messages, signatures, tensors
from headrace.protocol.errors import HeadraceError
from headrace.protocol.signatures import DEFAULT_SIGNATURE, Signature
from headrace.store import golden, records

log = logging.getLogger("gateway")

# Signature -> body.
Samples = Mapping[str, Mapping[str, Any]]

_WARMUP = "assets.extra/tf_serving_warmup_requests"
_MAX_FILE_BYTES = 32 * 2**20
_MAX_RECORDS = 64
_MAX_SAMPLE_BYTES = 64 * 2**10
_EXAMPLES = {"classify_log": "classify", "regress_log": "regress"}


def of(version: Path | None, known: Mapping[str, Signature]) -> Samples:
    """``version`` is its folder, None where the store cannot be read."""
    found: dict[str, Mapping[str, Any]] = {}
    if version is not None:
        for name, body in _brought(version):
            if name in known and name not in found and _is_good(body, known[name]):
                found[name] = body
    for name, signature in known.items():
        if name not in found and (ones := made(signature)) is not None:
            found[name] = ones
    return found


def made(signature: Signature) -> Mapping[str, Any] | None:
    """Ones, true and a word, in the least shape that fits; None where JSON has no such values or it
    would be long."""
    takes_examples = list(signature.inputs) == ["inputs"] and not signature.method_name.endswith(
        "/predict"
    )
    if not signature.inputs or takes_examples:
        return None
    arrays = {}
    for alias, spec in signature.inputs.items():
        if spec.dtype is None or alias in signature.defaults:
            continue
        shape = (
            (1,)
            if spec.shape is None
            else tuple(max(size, 1) if size < 0 else size for size in spec.shape)
        )
        if np.prod(shape, dtype=np.float64) * 2 > _MAX_SAMPLE_BYTES:
            return None
        value = b"example" if spec.dtype is dtypes.STRING else 1
        arrays[alias] = np.full(shape, value, spec.dtype.numpy)
    return _body(arrays, signature)


def _brought(version: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        yield from _golden(version)
        yield from _warmup(version / _WARMUP)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        HeadraceError,
    ) as e:
        log.warning(
            "requests beside a model cannot be read",
            extra={"version": str(version), "error": str(e)},
        )


def _golden(version: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for request in golden.read(version, max_bytes=_MAX_FILE_BYTES):
        name = request.signature_name
        yield name, _first_row(name, request.inputs)
        yield name, {**_naming(name), "inputs": request.inputs}


def _warmup(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not _is_readable(path):
        return
    with path.open("rb") as file:
        for data in islice(records.read(file), _MAX_RECORDS):
            record = messages.parse(messages.PredictionLog, data)
            kind = record.WhichOneof("log_type")
            if kind == "predict_log":
                request = record.predict_log.request
                name = request.model_spec.signature_name or DEFAULT_SIGNATURE
                arrays = {
                    alias: tensors.from_proto(proto) for alias, proto in request.inputs.items()
                }
                yield name, json.loads(predict.build_predict(arrays, signature_name=name))
            elif kind in _EXAMPLES:
                request = getattr(record, kind).request
                name = request.model_spec.signature_name or DEFAULT_SIGNATURE
                rows = [_features(example) for example in request.input.example_list.examples]
                if rows:
                    yield name, {**_naming(name), "examples": rows[:1]}


def _first_row(name: str, columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first of several rows is enough to show; whether it is one, the check says."""
    row = {
        alias: value[0] if isinstance(value, list) and value else value
        for alias, value in columns.items()
    }
    return {**_naming(name), "instances": [next(iter(row.values())) if len(row) == 1 else row]}


def _body(arrays: Mapping[str, np.ndarray], signature: Signature) -> Mapping[str, Any] | None:
    rows = all(array.ndim and len(array) == 1 for array in arrays.values())
    try:
        text = predict.build_predict(
            arrays, signature_name=signature.name, row_format=rows, signature=signature
        )
    except HeadraceError:
        # Of a dtype that JSON has no values for.
        return None
    body: Mapping[str, Any] = json.loads(_readable(text))
    return {
        key: value
        for key, value in body.items()
        if (key, value) != ("signature_name", DEFAULT_SIGNATURE)
    }


def _readable(text: bytes) -> bytes:
    return text.replace(b'{"b64":"ZXhhbXBsZQ=="}', b'"example"')


def _naming(name: str) -> dict[str, str]:
    return {} if name == DEFAULT_SIGNATURE else {"signature_name": name}


def _features(example: Any) -> dict[str, Any]:
    features = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        features[name] = [v.decode("utf-8") if isinstance(v, bytes) else v for v in values]
    return features


def _is_good(body: Mapping[str, Any], signature: Signature) -> bool:
    """Whether the body is short and passes the check that calls pass."""
    text = json.dumps(body).encode()
    if len(text) > _MAX_SAMPLE_BYTES:
        return False
    if "examples" in body:
        return True
    try:
        read = predict.parse_predict(text).tensors(signature)
        shapes = {
            alias: (signature.inputs[alias].dtype, array.shape)
            for alias, array in read.arrays.items()
        }
        signatures.check(signature, shapes, row_format=read.row_format)
    except HeadraceError:
        return False
    return not read.unknown


def _is_readable(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size <= _MAX_FILE_BYTES
    except OSError:
        return False
