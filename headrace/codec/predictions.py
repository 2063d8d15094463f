"""A :predict answer read back into arrays by output, for clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from simdjson import Object

from headrace.codec import fastjson
from headrace.codec.json import parsers, rapidjson
from headrace.codec.json.rapidjson import JsonObject, JsonSyntaxError
from headrace.codec.values import described, tensor
from headrace.protocol.errors import InvalidArgument
from headrace.protocol.signatures import Signature, TensorSpec


def parse_predictions(body: bytes, signature: Signature) -> dict[str, np.ndarray]:
    """Every output of the signature, in its dtype; InvalidArgument where the body does not hold it.

    Strings come as bytes, {"b64": ...} decoded.
    """
    arrays = _fast(body, signature)
    if arrays is None:
        arrays = _exact(body, signature)
    return arrays


def _fast(body: bytes, signature: Signature) -> dict[str, np.ndarray] | None:
    parser = parsers.borrow()
    try:
        root: Any = parser.parse(body)
    except (ValueError, RuntimeError):
        # NaN and Infinity among them, which strict JSON does not know.
        return None

    tensors = None
    if isinstance(root, Object):
        tensors = fastjson.tensors(
            body,
            root,
            signature.outputs,
            rows="predictions",
            columns="outputs",
        )
    del root
    parsers.give_back(parser, len(body))
    if tensors is None:
        return None
    return tensors.arrays


def _exact(body: bytes, signature: Signature) -> dict[str, np.ndarray]:
    try:
        answer = rapidjson.read(body).value
    except JsonSyntaxError as error:
        place = f"byte {error.offset}"
        raise InvalidArgument(f"answer: not JSON at {place}: {error.text}") from error

    if not isinstance(answer, JsonObject):
        raise InvalidArgument(f"answer: {described(answer)}, expected an object")
    if "predictions" in answer:
        return _from_rows(answer["predictions"], signature.outputs)
    if "outputs" in answer:
        return _from_columns(answer["outputs"], signature.outputs)
    raise InvalidArgument("answer: neither 'predictions' nor 'outputs' is there")


def _from_rows(rows: Any, outputs: Mapping[str, TensorSpec]) -> dict[str, np.ndarray]:
    if not isinstance(rows, list):
        raise InvalidArgument(f"predictions: {described(rows)}, expected a list")
    if len(outputs) == 1:
        ((alias, spec),) = outputs.items()
        array = tensor(rows, spec, ("predictions",))
        return {alias: array}

    columns: dict[str, list[Any]] = {}
    for alias in outputs:
        columns[alias] = []
    for i, row in enumerate(rows):
        for alias, column in columns.items():
            value = _member(row, alias, f"predictions[{i}]")
            column.append(value)

    arrays = {}
    for alias, column in columns.items():
        arrays[alias] = tensor(column, outputs[alias], ("predictions", alias))
    return arrays


def _from_columns(value: Any, outputs: Mapping[str, TensorSpec]) -> dict[str, np.ndarray]:
    if len(outputs) == 1:
        ((alias, spec),) = outputs.items()
        array = tensor(value, spec, ("outputs",))
        return {alias: array}

    arrays = {}
    for alias, spec in outputs.items():
        column = _member(value, alias, "outputs")
        arrays[alias] = tensor(column, spec, ("outputs", alias))
    return arrays


def _member(value: Any, alias: str, where: str) -> Any:
    if not isinstance(value, JsonObject):
        raise InvalidArgument(f"{where}: {described(value)}, expected an object")
    if alias not in value:
        raise InvalidArgument(f"{where}.{alias}: missing")
    return value[alias]
