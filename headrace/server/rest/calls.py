"""The inference calls of REST: a request's body in, the answer's body out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from headrace.codec import answers, examples
from headrace.codec.predict import parse_predict
from headrace.http.access_log import RequestInfo
from headrace.protocol.errors import InvalidArgument
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import (
    DEFAULT_SIGNATURE,
    METHOD_CLASSIFY,
    METHOD_REGRESS,
    Signature,
)
from headrace.server.core import Core, SignatureNotFound
from headrace.server.engines import Arrays
from headrace.server.inference import Classes
from headrace.server.rest.routes import Kind


async def predict(
    core: Core,
    spec: ModelSpec,
    body: bytes,
    info: RequestInfo,
    *,
    deadline: float | None,
    max_depth: int,
    may_block: bool = False,
    is_gone: Callable[[], bool] | None = None,
    is_alone: Callable[[], bool] | None = None,
) -> bytes:
    """Both in the event loop and, with ``may_block``, in a thread of the pool."""
    parsed = [parse_predict(body, max_depth=max_depth)]
    if parsed[0].signature_name:
        spec = replace(spec, signature_name=parsed[0].signature_name)
    row_format = False

    def read_inputs(signature: Signature) -> Arrays:
        nonlocal row_format
        # The parsed body goes at once: while this call waits, others may use its parser.
        tensors = parsed.pop().tensors(signature)
        row_format = tensors.row_format
        return tensors.arrays

    try:
        version, signature, outputs = await core.predict(
            spec,
            read_inputs,
            deadline=deadline,
            may_block=may_block,
            is_gone=is_gone,
            is_alone=is_alone,
        )
    except SignatureNotFound as error:
        text = f'Serving signature name: "{error.name}" not found in signature def'
        raise InvalidArgument(text) from error
    info.version = str(version)
    info.signature = signature.name
    return answers.predictions(outputs, signature, row_format=row_format)


def infer(
    core: Core,
    kind: Kind,
    spec: ModelSpec,
    body: bytes,
    info: RequestInfo,
    *,
    deadline: float | None,
    max_depth: int,
) -> bytes:
    """Classify or regress."""
    parsed = examples.parse(body, max_depth=max_depth)
    spec = replace(spec, signature_name=parsed.signature_name)
    method = METHOD_CLASSIFY if kind is Kind.CLASSIFY else METHOD_REGRESS
    inference = core.infer(spec, method, examples.serialized(parsed.input), deadline=deadline)
    info.version = str(inference.version)
    info.signature = spec.signature_name or DEFAULT_SIGNATURE
    (result,) = inference.results
    if isinstance(result, Classes):
        return answers.classifications(result.labels, result.scores)
    return answers.regressions(result.values)
