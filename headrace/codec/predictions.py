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
    fast = _fast(body, signature)
    return _exact(body, signature) if fast is None else fast


def _fast(body: bytes, signature: Signature) -> dict[str, np.ndarray] | None:
    parser = parsers.borrow()
    try:
        root: Any = parser.parse(body)
    except (
        ValueError,
        RuntimeError,
    ):
        # NaN and Infinity among them, which strict JSON does not know.
        return None
    found = None
    if isinstance(root, Object):
        found = fastjson.tensors(
            body, root, signature.outputs, rows="predictions", columns="outputs"
        )
    del root
    parsers.give_back(parser, len(body))
    return None if found is None else found.arrays


def _exact(body: bytes, signature: Signature) -> dict[str, np.ndarray]:
    try:
        answer = rapidjson.read(body).value
    except JsonSyntaxError as error:
        raise InvalidArgument(f"answer: not JSON at byte {error.offset}: {error.text}") from error
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
        return {alias: tensor(rows, spec, ("predictions",))}
    columns: dict[str, list[Any]] = {alias: [] for alias in outputs}
    for i, row in enumerate(rows):
        for alias, column in columns.items():
            column.append(_member(row, alias, f"predictions[{i}]"))
    return {
        alias: tensor(column, outputs[alias], ("predictions", alias))
        for alias, column in columns.items()
    }


def _from_columns(value: Any, outputs: Mapping[str, TensorSpec]) -> dict[str, np.ndarray]:
    if len(outputs) == 1:
        ((alias, spec),) = outputs.items()
        return {alias: tensor(value, spec, ("outputs",))}
    return {
        alias: tensor(_member(value, alias, "outputs"), spec, ("outputs", alias))
        for alias, spec in outputs.items()
    }


def _member(value: Any, alias: str, where: str) -> Any:
    if not isinstance(value, JsonObject):
        raise InvalidArgument(f"{where}: {described(value)}, expected an object")
    if alias not in value:
        raise InvalidArgument(f"{where}.{alias}: missing")
    return value[alias]
