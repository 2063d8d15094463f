"""Everything that can be wrong with a call, in the order TensorFlow Serving looks at it; free of
transports.

Each function takes what a door has read and the catalog, and gives the contract that the call is
pinned to. What is learnt on the way is noted for log and metrics, also when the call is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gateway.contracts.catalog import Catalog, Contract
from headrace.codec import examples, predict
from headrace.codec.examples import ExamplesBody
from headrace.codec.json.rapidjson import ANY_DEPTH
from headrace.codec.predict import PredictBody, Tensors
from headrace.http.access_log import RequestInfo
from headrace.protocol import dtypes, signatures, tensors
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import (
    FailedPrecondition,
    HeadraceError,
    InvalidArgument,
    Unimplemented,
)
from headrace.protocol.faults import Fault, our_text
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import Shape, Signature

# Of an answer: the version that the call was checked against and sent to.
VERSION_HEADER = "headrace-model-version"
CLASSIFY, REGRESS = "classify", "regress"

_SIGNATURE_NAME = "signature_name"
# The one input of a signature that takes examples.
_INPUT = "inputs"
_OUTPUTS = {CLASSIFY: ("classes", "scores"), REGRESS: ("outputs",)}


@dataclass(frozen=True, slots=True)
class Admitted:
    """A JSON call that may go on: to this contract, and what it says as arrays."""

    contract: Contract
    signature: str
    tensors: Tensors


def predict_body(
    catalog: Catalog,
    target: ModelSpec,
    body: bytes,
    noted: RequestInfo,
    *,
    max_depth: int = ANY_DEPTH,
) -> Admitted:
    parsed = predict.parse_predict(body, max_depth=max_depth)
    if fault := parsed.ambiguities():
        raise InvalidArgument(our_text(fault), fault=fault)
    try:
        contract, name = resolved(catalog, target, parsed.signature_name, noted)
    except InvalidArgument as refusal:
        raise _hinted(refusal, parsed) from None
    signature = contract.signatures[name]
    try:
        read = parsed.tensors(signature)
        shapes: dict[str, tuple[DType | None, Shape]] = {
            alias: (signature.inputs[alias].dtype, array.shape)
            for alias, array in read.arrays.items()
        }
        # A column that no input has is ignored by the backend, so it is most likely a misspelt one.
        for alias in read.unknown:
            shapes[alias] = (None, ())
        signatures.check(
            contract.checked[name], shapes, row_format=read.row_format, named=read.named
        )
    except InvalidArgument as refusal:
        raise _hinted(_first(parsed, contract.checked[name], refusal), parsed) from None
    return Admitted(contract, name, read)


def examples_body(
    catalog: Catalog,
    target: ModelSpec,
    method: str,
    body: bytes,
    noted: RequestInfo,
    *,
    max_depth: int = ANY_DEPTH,
) -> Contract:
    parsed = examples.parse(body, max_depth=max_depth)
    if parsed.ambiguity is not None:
        raise InvalidArgument(our_text(parsed.ambiguity), fault=parsed.ambiguity)
    try:
        contract, name = resolved(catalog, target, parsed.signature_name, noted)
        _check_examples(contract, name, method, parsed.input)
    except InvalidArgument as refusal:
        raise _hinted(refusal, parsed) from None
    return contract


def predict_message(
    catalog: Catalog, target: ModelSpec, message: Any, noted: RequestInfo
) -> Contract:
    try:
        contract, name = resolved(catalog, target, message.model_spec.signature_name, noted)
    except InvalidArgument as e:
        if e.fault is not None and e.fault.kind == "unknown_signature":
            # TensorFlow Serving's code for it.
            raise FailedPrecondition(e.message, fault=e.fault) from e
        raise
    _check_outputs(message.output_filter, contract.signatures[name])
    shapes = {}
    for alias, tensor in message.inputs.items():
        try:
            shapes[alias] = tensors.described(tensor)
        except InvalidArgument as e:
            fault = Fault("tensor", ("inputs", alias), facts={"reason": e.message})
            raise InvalidArgument(our_text(fault), fault=fault) from e
    signatures.check(contract.checked[name], shapes, row_format=None)
    return contract


def examples_message(
    catalog: Catalog, target: ModelSpec, method: str, message: Any, noted: RequestInfo
) -> Contract:
    contract, name = resolved(catalog, target, message.model_spec.signature_name, noted)
    _check_examples(contract, name, method, message.input)
    return contract


def tasks_message(
    catalog: Catalog, target: ModelSpec, message: Any, noted: RequestInfo
) -> Contract:
    """The tasks of a MultiInference call: all go to the version that the first one chose."""
    contract = catalog.resolve(target)
    noted.model, noted.version = contract.model, str(contract.version)
    for i, task in enumerate(message.tasks):
        place = ("tasks", i)
        if task.model_spec.name != target.name:
            fault = Fault(
                "task_model",
                (*place, "model_spec", "name"),
                f'"{target.name}" as in the first task',
            )
            raise InvalidArgument(our_text(fault), fault=fault)
        method = task.method_name.rpartition("/")[2]
        if task.method_name not in ("tensorflow/serving/classify", "tensorflow/serving/regress"):
            expected = "tensorflow/serving/classify or tensorflow/serving/regress"
            fault = Fault(
                "task_method", (*place, "method_name"), expected, f'"{task.method_name[:80]}"'
            )
            raise Unimplemented(our_text(fault), fault=fault)
        name = contract.signature(task.model_spec.signature_name)
        noted.signature = name
        _check_examples(contract, name, method, message.input)
    return contract


def resolved(
    catalog: Catalog, target: ModelSpec, signature_name: str, noted: RequestInfo
) -> tuple[Contract, str]:
    contract = catalog.resolve(target)
    noted.model, noted.version = contract.model, str(contract.version)
    name = noted.signature = contract.signature(signature_name)
    return contract, name


def _first(parsed: PredictBody, signature: Signature, refusal: InvalidArgument) -> InvalidArgument:
    """The fault that stands before the one found, now that the shapes are known; else the one
    found."""
    try:
        parsed.explain(signature)
    except InvalidArgument as first:
        return first
    except HeadraceError:
        pass
    return refusal


def _hinted(refusal: InvalidArgument, parsed: PredictBody | ExamplesBody) -> InvalidArgument:
    """With the name of the key, where a body that does not fit chose its signature by another: it
    is not read."""
    wrong = next(
        (n for n in parsed.names() if n != _SIGNATURE_NAME and n.lower().startswith("signature")),
        None,
    )
    if wrong is None or parsed.signature_name or refusal.fault is None:
        return refusal
    hint = f" (the key {wrong[:40]} is not read; did you mean {_SIGNATURE_NAME}?)"
    fault = replace(refusal.fault, facts={**refusal.fault.facts, "hint": hint})
    return InvalidArgument(our_text(fault), fault=fault)


def _check_outputs(wanted: Any, signature: Signature) -> None:
    for i, alias in enumerate(wanted):
        if alias not in signature.outputs:
            facts = {"name": alias[:200], "hint": signatures.near_name(alias, signature.outputs)}
            fault = Fault(
                "unknown_output",
                ("output_filter", i),
                ", ".join(sorted(signature.outputs)),
                facts=facts,
            )
            raise InvalidArgument(our_text(fault), fault=fault)


def _check_examples(contract: Contract, name: str, method: str, given: Any) -> None:
    """Whether the signature takes examples and gives what the method reads, and whether there is
    one."""
    signature = contract.signatures[name]
    if not takes_examples(signature, method):
        known = sorted(n for n, s in contract.signatures.items() if takes_examples(s, method))
        facts = {"signature": name, "method": method}
        fault = Fault(
            "not_for_examples",
            (_SIGNATURE_NAME,),
            ", ".join(known) or "none of this model",
            facts=facts,
        )
        raise InvalidArgument(our_text(fault), fault=fault)
    count = len(examples.serialized(given))
    if not count:
        fault = Fault("no_example_sent", ("input",), "at least one example", "none")
        raise InvalidArgument(our_text(fault), fault=fault)
    checked = contract.checked[name]
    signatures.check(checked, {_INPUT: (dtypes.STRING, (count,))}, place=("examples",), named=False)


def takes_examples(signature: Signature, method: str) -> bool:
    """Whether it can be asked to classify or regress: by its one input, and by what it gives."""
    outputs = _OUTPUTS[method]
    return (
        set(signature.inputs) == {_INPUT}
        and any(alias in signature.outputs for alias in outputs)
        and len(signature.outputs) <= len(outputs)
    )
