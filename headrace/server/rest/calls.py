"""The inference calls: a body in, the answer's body out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from headrace.codec import answers, examples, predict
from headrace.http.access_log import RequestInfo
from headrace.protocol.errors import InvalidArgument
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import DEFAULT_SIGNATURE, Signature
from headrace.server import inference
from headrace.server.core import Core, SignatureNotFound
from headrace.server.inference import Classes
from headrace.server.rest.routes import Kind


def _predict(
    core: Core,
    spec: ModelSpec,
    body: bytes,
    deadline: float | None,
    max_depth: int,
    info: RequestInfo,
) -> bytes:
    parsed = predict.parse_predict(body, max_depth=max_depth)
    row_format = False

    def inputs(signature: Signature) -> Mapping[str, Any]:
        nonlocal row_format
        tensors = parsed.tensors(signature)
        row_format = tensors.row_format
        return tensors.arrays

    try:
        prediction = core.predict(
            replace(spec, signature_name=parsed.signature_name), inputs, deadline=deadline
        )
    except SignatureNotFound as error:
        raise InvalidArgument(
            f'Serving signature name: "{error.name}" not found in signature def'
        ) from error
    info.version = str(prediction.version)
    info.signature = prediction.signature.name
    return answers.predictions(prediction.outputs, prediction.signature, row_format=row_format)


async def predict_soon(
    core: Core,
    spec: ModelSpec,
    body: bytes,
    deadline: float | None,
    max_depth: int,
    info: RequestInfo,
    *,
    is_gone: Callable[[], bool] | None,
    is_alone: Callable[[], bool] | None,
) -> bytes:
    """A predict call answered in the event loop."""
    parsed = [predict.parse_predict(body, max_depth=max_depth)]
    if parsed[0].signature_name:
        spec = replace(spec, signature_name=parsed[0].signature_name)
    row_format = False

    def inputs(signature: Signature) -> Mapping[str, Any]:
        nonlocal row_format
        # While the call waits, others may have its parser.
        tensors = parsed.pop().tensors(signature)
        row_format = tensors.row_format
        return tensors.arrays

    try:
        prediction = await core.predict_soon(
            spec, inputs, deadline=deadline, is_gone=is_gone, is_alone=is_alone
        )
    except SignatureNotFound as error:
        raise InvalidArgument(
            f'Serving signature name: "{error.name}" not found in signature def'
        ) from error
    info.version = str(prediction.version)
    info.signature = prediction.signature.name
    return answers.predictions(prediction.outputs, prediction.signature, row_format=row_format)


def _classify(
    core: Core,
    spec: ModelSpec,
    body: bytes,
    deadline: float | None,
    max_depth: int,
    info: RequestInfo,
) -> bytes:
    return _inferred(core, spec, inference.CLASSIFY, body, deadline, max_depth, info)


def _regress(
    core: Core,
    spec: ModelSpec,
    body: bytes,
    deadline: float | None,
    max_depth: int,
    info: RequestInfo,
) -> bytes:
    return _inferred(core, spec, inference.REGRESS, body, deadline, max_depth, info)


def _inferred(
    core: Core,
    spec: ModelSpec,
    method: str,
    body: bytes,
    deadline: float | None,
    max_depth: int,
    info: RequestInfo,
) -> bytes:
    parsed = examples.parse(body, max_depth=max_depth)
    spec = replace(spec, signature_name=parsed.signature_name)
    inferred = core.infer(spec, method, examples.serialized(parsed.input), deadline=deadline)
    info.version = str(inferred.version)
    info.signature = spec.signature_name or DEFAULT_SIGNATURE
    (result,) = inferred.results
    if isinstance(result, Classes):
        return answers.classifications(result.labels, result.scores)
    return answers.regressions(result.values)


INFERENCES = {Kind.PREDICT: _predict, Kind.CLASSIFY: _classify, Kind.REGRESS: _regress}
