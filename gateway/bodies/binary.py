"""Bodies that carry tensors as bytes: npy, npz and pictures in, npy and npz out.

The backend gets them as a PredictRequest. A tensor's bytes are joined into it as they came; no
message is built around them and encoded again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gateway.bodies.media import PICTURE_STARTS, Media
from gateway.contracts.catalog import Contract
from headrace.codec import answers, npy
from headrace.protocol import dtypes, faults, messages, tensors
from headrace.protocol.errors import InvalidArgument, NotAcceptable, UnsupportedMedia
from headrace.protocol.faults import Fault
from headrace.protocol.signatures import Signature, TensorSpec

_NOT_IN_NPY = (dtypes.STRING, dtypes.BFLOAT16)
# The name that np.savez(file, array) gives its array.
_UNNAMED = "arr_0"
# Field tags of TensorProto.tensor_content, PredictRequest.inputs, and a map entry's key and value;
# each is of wire type "length-delimited".
_CONTENT_TAG = b"\x22"
_INPUTS_TAG = b"\x12"
_KEY_TAG = b"\x0a"
_VALUE_TAG = b"\x12"


def read(body: bytes, signature: Signature, media: Media, *, limit: int) -> dict[str, np.ndarray]:
    """The arrays of a body that is not JSON, by input name; none may be over ``limit`` bytes."""
    if not media.is_image:
        _refuse_what_npy_lacks(signature)
    if media is Media.NPZ:
        arrays = npy.read_zip(body, limit=limit)
        if len(signature.inputs) == 1 and list(arrays) == [_UNNAMED]:
            (alias,) = signature.inputs
            return {alias: arrays[_UNNAMED]}
        return arrays
    spec = _only_input(signature, media)
    if media is Media.NPY:
        return {spec.alias: npy.read(body)}
    return {spec.alias: _picture(body, spec, media)}


def encode(contract: Contract, signature_name: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    """A serialized PredictRequest, pinned to the version."""
    request = messages.PredictRequest()
    request.model_spec.name = contract.model
    request.model_spec.version.value = contract.version
    request.model_spec.signature_name = signature_name
    parts: list[Any] = [request.SerializeToString()]
    for alias, array in arrays.items():
        key = _field(_KEY_TAG, [alias.encode()])
        value = _field(_VALUE_TAG, _tensor(array))
        parts += _field(_INPUTS_TAG, key + value)
    return b"".join(parts)


def check_answer(signature: Signature, media: Media) -> None:
    """Before the model runs: NotAcceptable where its answer cannot be written as ``media``."""
    if media is Media.JSON:
        return
    if media is Media.NPY and len(signature.outputs) != 1:
        names = ", ".join(sorted(signature.outputs))
        raise NotAcceptable(
            f"{Media.NPY.value} holds one output, there are {names}; accept {Media.NPZ.value}"
        )
    for alias, spec in sorted(signature.outputs.items()):
        if spec.dtype is None:
            raise NotAcceptable(
                f"output {alias} is {spec.dtype_number}, which npy cannot hold; call over gRPC can"
            )
        if spec.dtype in _NOT_IN_NPY:
            alternative = "JSON" if spec.dtype is dtypes.STRING else "call over gRPC"
            raise NotAcceptable(
                f"output {alias} is {spec.dtype.word}, which npy cannot hold; {alternative} can"
            )


def write_answer(reply: bytes, signature: Signature, media: Media, *, row_format: bool) -> bytes:
    """A PredictResponse as a body of this media; ``row_format`` is for JSON alone."""
    response = messages.parse(messages.PREDICT.response, reply)
    arrays = {alias: tensors.from_proto(proto) for alias, proto in response.outputs.items()}
    if media is Media.NPZ:
        return npy.write_zip(arrays)
    if media is Media.NPY:
        (array,) = arrays.values()
        return npy.write(array)
    return answers.predictions(arrays, signature, row_format=row_format)


def takes_npy(signature: Signature) -> bool:
    return bool(signature.inputs) and all(
        spec.dtype is not None and spec.dtype not in _NOT_IN_NPY
        for spec in signature.inputs.values()
    )


def takes_picture(signature: Signature) -> bool:
    return [spec.dtype for spec in signature.inputs.values()] == [dtypes.STRING]


def _tensor(array: np.ndarray) -> list[Any]:
    """The parts of a serialized TensorProto."""
    if array.dtype == object:
        return [tensors.to_proto(array).SerializeToString()]
    head = tensors.to_proto(np.empty((0,), array.dtype))
    del head.tensor_shape.dim[:]
    for size in array.shape:
        head.tensor_shape.dim.add(size=size)
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return [head.SerializeToString(), *_field(_CONTENT_TAG, [content.data])]


def _field(tag: bytes, parts: list[Any]) -> list[Any]:
    size = sum(len(part) for part in parts)
    return [tag, tensors.varint(size), *parts]


def _refuse_what_npy_lacks(signature: Signature) -> None:
    for spec in signature.inputs.values():
        if spec.dtype is not None and spec.dtype in _NOT_IN_NPY:
            alternative = "JSON or gRPC" if spec.dtype is dtypes.STRING else "gRPC"
            raise UnsupportedMedia(
                f"input {spec.alias} is {spec.dtype.word}, which npy cannot hold; "
                f"send it by {alternative}"
            )


def _only_input(signature: Signature, media: Media) -> TensorSpec:
    if len(signature.inputs) != 1:
        names = ", ".join(sorted(signature.inputs)) or "none"
        alternative = f"{Media.NPZ.value} holds several by name"
        if media.is_image:
            alternative = "JSON takes pictures as b64"
        raise UnsupportedMedia(
            f"{media.value} holds one input, the signature {signature.name} takes {names}; "
            f"{alternative}"
        )
    (spec,) = signature.inputs.values()
    return spec


def _picture(body: bytes, spec: TensorSpec, media: Media) -> np.ndarray:
    if spec.dtype is not dtypes.STRING:
        raise UnsupportedMedia(
            f"input {spec.alias} is {spec.dtype} {spec.shape_text}, not an encoded picture; send "
            f"its pixels as {Media.NPY.value} or JSON"
        )
    if not body.startswith(PICTURE_STARTS[media]):
        got = "other bytes" if body else "nothing"
        fault = Fault("npy", (), f"a picture of type {media.value}", got)
        raise InvalidArgument(faults.our_text(fault), fault=fault)
    picture = np.empty(1, object)
    picture[0] = body
    if spec.shape is None:
        return picture
    # Free dimensions are 1. Where others are not, the check rejects the picture.
    shape = tuple(1 if size < 0 else size for size in spec.shape)
    if any(size != 1 for size in shape):
        return picture
    return picture.reshape(shape)
