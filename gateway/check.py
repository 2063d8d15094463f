"""Everything that can be wrong with a call, in the order TensorFlow Serving looks at it.

Each function takes what a door has read and the catalog, and returns the contract of the version
that the call is for. Nothing here knows of a transport.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from gateway.contracts.catalog import Catalog, Contract
from headrace.codec import examples, predict
from headrace.codec.examples import ExamplesBody
from headrace.codec.json.rapidjson import ANY_DEPTH
from headrace.codec.predict import PredictBody, Tensors
from headrace.http.access_log import RequestInfo
from headrace.protocol import dtypes, signatures, tensors
from headrace.protocol.errors import (
    FailedPrecondition,
    HeadraceError,
    InvalidArgument,
    Unimplemented,
)
from headrace.protocol.faults import Fault, our_text
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.refusals import refuse_fault
from headrace.protocol.signatures import Signature

# The header of an answer that names the version the call was checked against and sent to.
VERSION_HEADER = "headrace-model-version"
CLASSIFY, REGRESS = "classify", "regress"

_SIGNATURE_NAME = "signature_name"
# The one input of a signature that takes examples.
_INPUT = "inputs"
_OUTPUTS = {CLASSIFY: ("classes", "scores"), REGRESS: ("outputs",)}
_TASK_METHODS = ("tensorflow/serving/classify", "tensorflow/serving/regress")


def resolve(catalog: Catalog, spec: ModelSpec, signature_name: str, info: RequestInfo) -> Contract:
    """The version that a call is for. ``info`` then names model, version and signature."""
    contract = catalog.resolve(spec)
    info.model = contract.model
    info.version = str(contract.version)
    info.signature = contract.signature_name(signature_name)
    return contract


def predict_body(
    catalog: Catalog,
    spec: ModelSpec,
    body: bytes,
    info: RequestInfo,
    *,
    max_depth: int = ANY_DEPTH,
) -> tuple[Contract, Tensors]:
    """The version that a JSON body is for, and the body's values as arrays."""
    parsed = predict.parse_predict(body, max_depth=max_depth)
    ambiguity = parsed.ambiguity()
    if ambiguity is not None:
        refuse_fault(ambiguity)
    try:
        contract = resolve(catalog, spec, parsed.signature_name, info)
    except InvalidArgument as error:
        raise _with_hint(error, parsed) from None
    signature = contract.checked_signatures[info.signature]
    try:
        values = parsed.tensors(contract.signatures[info.signature])
        shapes = values.shapes(signature)
        signatures.check(signature, shapes, row_format=values.row_format, named=values.named)
    except InvalidArgument as error:
        raise _with_hint(_first_fault(parsed, signature, error), parsed) from None
    return contract, values


def arrays(contract: Contract, signature_name: str, values: Mapping[str, np.ndarray]) -> None:
    """Check arrays by input name, as npy and npz bodies have them."""
    shapes = {}
    for alias, array in values.items():
        shapes[alias] = (dtypes.by_numpy(array.dtype), array.shape)
    signatures.check(contract.checked_signatures[signature_name], shapes, row_format=False)


def examples_body(
    catalog: Catalog,
    spec: ModelSpec,
    method: str,
    body: bytes,
    info: RequestInfo,
    *,
    max_depth: int = ANY_DEPTH,
) -> Contract:
    parsed = examples.parse(body, max_depth=max_depth)
    if parsed.ambiguity is not None:
        refuse_fault(parsed.ambiguity)
    try:
        contract = resolve(catalog, spec, parsed.signature_name, info)
        _check_examples(contract, info.signature, method, parsed.input)
    except InvalidArgument as error:
        raise _with_hint(error, parsed) from None
    return contract


def predict_message(catalog: Catalog, spec: ModelSpec, message: Any, info: RequestInfo) -> Contract:
    try:
        contract = resolve(catalog, spec, message.model_spec.signature_name, info)
    except InvalidArgument as error:
        if error.fault is not None and error.fault.kind == "unknown_signature":
            # TensorFlow Serving's code for it.
            raise FailedPrecondition(error.message, fault=error.fault) from error
        raise
    _check_output_filter(message.output_filter, contract.signatures[info.signature])
    shapes = {}
    for alias, tensor in message.inputs.items():
        try:
            shapes[alias] = tensors.described(tensor)
        except InvalidArgument as error:
            fault = Fault("tensor", ("inputs", alias), facts={"reason": error.message})
            raise InvalidArgument(our_text(fault), fault=fault) from error
    signatures.check(contract.checked_signatures[info.signature], shapes, row_format=None)
    return contract


def examples_message(
    catalog: Catalog, spec: ModelSpec, method: str, message: Any, info: RequestInfo
) -> Contract:
    contract = resolve(catalog, spec, message.model_spec.signature_name, info)
    _check_examples(contract, info.signature, method, message.input)
    return contract


def tasks_message(catalog: Catalog, spec: ModelSpec, message: Any, info: RequestInfo) -> Contract:
    """The tasks of a MultiInference call; all go to the version that the first one names."""
    contract = catalog.resolve(spec)
    info.model = contract.model
    info.version = str(contract.version)
    for i, task in enumerate(message.tasks):
        task_spec = task.model_spec
        if task_spec.name != spec.name:
            path = ("tasks", i, "model_spec", "name")
            refuse_fault(Fault("task_model", path, f'"{spec.name}" as in the first task'))
        if task.method_name not in _TASK_METHODS:
            _reject_task_method(task.method_name, i)
        method = task.method_name.rpartition("/")[2]
        info.signature = contract.signature_name(task_spec.signature_name)
        _check_examples(contract, info.signature, method, message.input)
    return contract


def takes_examples(signature: Signature, method: str) -> bool:
    """Whether the signature can classify or regress, by its one input and by its outputs."""
    outputs = _OUTPUTS[method]
    if set(signature.inputs) != {_INPUT} or len(signature.outputs) > len(outputs):
        return False
    return any(alias in signature.outputs for alias in outputs)


def _first_fault(
    parsed: PredictBody, signature: Signature, error: InvalidArgument
) -> InvalidArgument:
    """The fault that comes first in the body, now that the shapes are known; else ``error``."""
    try:
        parsed.explain(signature)
    except InvalidArgument as first:
        return first
    except HeadraceError:
        pass
    return error


def _with_hint(error: InvalidArgument, parsed: PredictBody | ExamplesBody) -> InvalidArgument:
    """Points at a misspelt ``signature_name``, where the body has no right one."""
    if parsed.signature_name or error.fault is None:
        return error
    for name in parsed.names():
        if name != _SIGNATURE_NAME and name.lower().startswith("signature"):
            hint = f" (the key {name[:40]} is not read; did you mean {_SIGNATURE_NAME}?)"
            fault = replace(error.fault, facts={**error.fault.facts, "hint": hint})
            return InvalidArgument(our_text(fault), fault=fault)
    return error


def _check_output_filter(output_filter: Any, signature: Signature) -> None:
    for i, alias in enumerate(output_filter):
        if alias not in signature.outputs:
            expected = ", ".join(sorted(signature.outputs))
            hint = signatures.near_name(alias, signature.outputs)
            facts = {"name": alias[:200], "hint": hint}
            refuse_fault(Fault("unknown_output", ("output_filter", i), expected, facts=facts))


def _check_examples(contract: Contract, signature_name: str, method: str, sent: Any) -> None:
    """Check that the signature takes examples and returns what the method reads, and that there is
    an example."""
    signature = contract.signatures[signature_name]
    if not takes_examples(signature, method):
        suitable = []
        for name, other in sorted(contract.signatures.items()):
            if takes_examples(other, method):
                suitable.append(name)
        expected = ", ".join(suitable) or "none of this model"
        facts = {"signature": signature_name, "method": method}
        refuse_fault(Fault("not_for_examples", (_SIGNATURE_NAME,), expected, facts=facts))
    count = len(examples.serialized(sent))
    if not count:
        refuse_fault(Fault("no_example_sent", ("input",), "at least one example", "none"))
    shapes = {_INPUT: (dtypes.STRING, (count,))}
    signatures.check(
        contract.checked_signatures[signature_name], shapes, place=("examples",), named=False
    )


def _reject_task_method(method: str, task: int) -> NoReturn:
    expected = " or ".join(_TASK_METHODS)
    path = ("tasks", task, "method_name")
    fault = Fault("task_method", path, expected, f'"{method[:80]}"')
    raise Unimplemented(our_text(fault), fault=fault)
