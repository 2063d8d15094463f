"""Calls whose tensors travel as bytes: npy, npz and pictures in, npy and npz out. They go to the
backend over gRPC.

A tensor's bytes are joined into the PredictRequest as they came; no message is built around them
and encoded again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway import check
from gateway.bodies.media import Media
from gateway.contracts.catalog import Catalog, Contract
from headrace.codec import answers, npy
from headrace.http.access_log import RequestInfo
from headrace.protocol import dtypes, faults, messages, signatures, tensors
from headrace.protocol.errors import InvalidArgument, NotAcceptable, UnsupportedMedia
from headrace.protocol.faults import Fault
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import Shape, Signature, TensorSpec

_PICTURES = {Media.PNG: b"\x89PNG\r\n\x1a\n", Media.JPEG: b"\xff\xd8\xff"}
_IN_NPY_NOT = (dtypes.STRING, dtypes.BFLOAT16)
# All of kind "bytes".
_CONTENT_TAG, _INPUTS_TAG, _KEY_TAG, _VALUE_TAG = (
    b"\x22",
    b"\x12",
    b"\x0a",
    b"\x12",
)


@dataclass(frozen=True, slots=True)
class Call:
    """Admitted: to this contract, as these bytes of a PredictRequest; ``row_format`` is what a JSON
    answer follows."""

    contract: Contract
    signature: str
    request: bytes
    row_format: bool = False


def admit(
    catalog: Catalog,
    target: ModelSpec,
    body: bytes,
    noted: RequestInfo,
    *,
    sent: Media,
    wanted: Media,
    signature: str,
    limit: int,
    max_depth: int,
) -> Call:
    """Reads and checks a body of this media; ``signature`` is the header's, since there is no name
    in such a body."""
    row_format = False
    if sent is Media.JSON:
        admitted = check.predict_body(catalog, target, body, noted, max_depth=max_depth)
        contract, name = admitted.contract, admitted.signature
        arrays, row_format = admitted.tensors.arrays, admitted.tensors.row_format
    else:
        contract, name = check.resolved(catalog, target, signature, noted)
        arrays = _read(body, contract.signatures[name], sent, limit)
        shapes = {alias: (dtypes.by_numpy(a.dtype), a.shape) for alias, a in arrays.items()}
        signatures.check(contract.checked[name], shapes, row_format=False)
    _check_answer(contract.signatures[name], wanted)
    return Call(contract, name, encoded(contract, name, arrays), row_format)


def takes_npy(signature: Signature) -> bool:
    return bool(signature.inputs) and all(
        spec.dtype is not None and spec.dtype not in _IN_NPY_NOT
        for spec in signature.inputs.values()
    )


def takes_picture(signature: Signature) -> bool:
    return [spec.dtype for spec in signature.inputs.values()] == [dtypes.STRING]


def answer(call: Call, reply: bytes, wanted: Media) -> bytes:
    response = messages.parse(messages.PREDICT.response, reply)
    arrays = {alias: tensors.from_proto(proto) for alias, proto in response.outputs.items()}
    if wanted is Media.NPZ:
        return npy.write_zip(arrays)
    if wanted is Media.NPY:
        (array,) = arrays.values()
        return npy.write(array)
    return answers.predictions(
        arrays, call.contract.signatures[call.signature], row_format=call.row_format
    )


def encoded(contract: Contract, signature_name: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    """A PredictRequest, pinned."""
    head = messages.PredictRequest()
    head.model_spec.name = contract.model
    head.model_spec.version.value = contract.version
    head.model_spec.signature_name = signature_name
    parts: list[Any] = [head.SerializeToString()]
    for alias, array in arrays.items():
        tensor = _tensor(array)
        key = _field(_KEY_TAG, [alias.encode()])
        parts += _field(_INPUTS_TAG, [*key, *_field(_VALUE_TAG, tensor)])
    return b"".join(parts)


def _tensor(array: np.ndarray) -> list[Any]:
    if array.dtype == object:
        return [tensors.to_proto(array).SerializeToString()]
    empty = tensors.to_proto(np.empty((0,), array.dtype))
    del empty.tensor_shape.dim[:]
    for size in array.shape:
        empty.tensor_shape.dim.add(size=size)
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return [empty.SerializeToString(), *_field(_CONTENT_TAG, [content.data])]


def _field(tag: bytes, parts: list[Any]) -> list[Any]:
    return [tag, tensors.varint(sum(len(part) for part in parts)), *parts]


def _read(body: bytes, signature: Signature, sent: Media, limit: int) -> dict[str, np.ndarray]:
    for spec in signature.inputs.values():
        if not sent.is_image and spec.dtype in _IN_NPY_NOT:
            how = "JSON or gRPC" if spec.dtype is dtypes.STRING else "gRPC"
            raise UnsupportedMedia(
                f"input {spec.alias} is {spec.dtype.word}, which npy cannot hold; send it by {how}"
            )
    if sent is Media.NPZ:
        arrays = npy.read_zip(body, limit=limit)
        if len(signature.inputs) == 1 and list(arrays) == ["arr_0"]:
            # np.savez(file, array) names it so.
            return {next(iter(signature.inputs)): arrays["arr_0"]}
        return arrays
    spec = _only(signature, sent)
    return {spec.alias: npy.read(body) if sent is Media.NPY else _picture(body, spec, sent)}


def _only(signature: Signature, sent: Media) -> TensorSpec:
    if len(signature.inputs) != 1:
        names = ", ".join(sorted(signature.inputs)) or "none"
        how = (
            f"{Media.NPZ.value} holds several by name"
            if not sent.is_image
            else "JSON takes pictures as b64"
        )
        raise UnsupportedMedia(
            f"{sent.value} holds one input, the signature {signature.name} takes {names}; {how}"
        )
    (spec,) = signature.inputs.values()
    return spec


def _picture(body: bytes, spec: TensorSpec, sent: Media) -> np.ndarray:
    if spec.dtype is not dtypes.STRING:
        raise UnsupportedMedia(
            f"input {spec.alias} is {spec.dtype} {spec.shape_text}, not an encoded picture; send "
            "its pixels as "
            f"{Media.NPY.value} or JSON"
        )
    if not body.startswith(_PICTURES[sent]):
        fault = Fault(
            "npy", (), f"a picture of type {sent.value}", "other bytes" if body else "nothing"
        )
        raise InvalidArgument(faults.our_text(fault), fault=fault)
    shape: Shape = (
        (1,) if spec.shape is None else tuple(1 if size < 0 else size for size in spec.shape)
    )
    array = np.empty(1, object)
    array[0] = body
    return array.reshape(shape) if shape.count(1) == len(shape) else array


def _check_answer(signature: Signature, wanted: Media) -> None:
    """Before the model runs: whether its answer can be written as asked."""
    if wanted is Media.JSON:
        return
    if wanted is Media.NPY and len(signature.outputs) != 1:
        names = ", ".join(sorted(signature.outputs))
        raise NotAcceptable(
            f"{Media.NPY.value} holds one output, there are {names}; accept {Media.NPZ.value}"
        )
    for alias, spec in sorted(signature.outputs.items()):
        if spec.dtype is None or spec.dtype in _IN_NPY_NOT:
            how = "JSON" if spec.dtype is dtypes.STRING else "call over gRPC"
            raise NotAcceptable(
                f"output {alias} is {spec.dtype.word if spec.dtype else spec.dtype_number}, which "
                "npy cannot hold; "
                f"{how} can"
            )
