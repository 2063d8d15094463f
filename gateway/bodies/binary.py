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
from headrace.codec import answers, npy, placeholders
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
    spec = request.model_spec
    spec.name = contract.model
    spec.version.value = contract.version
    spec.signature_name = signature_name
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
    names = sorted(signature.outputs)
    if media is Media.NPY and len(names) != 1:
        raise NotAcceptable(
            f"{Media.NPY.value} holds one output, there are {', '.join(names)}; "
            f"accept {Media.NPZ.value}"
        )
    for name in names:
        spec = signature.outputs[name]
        if _fits_npy(spec):
            continue
        dtype = spec.dtype.word if spec.dtype else spec.dtype_number
        alternative = "call over gRPC"
        if spec.dtype is dtypes.STRING:
            alternative = "JSON"
        raise NotAcceptable(f"output {name} is {dtype}, which npy cannot hold; {alternative} can")


def write_answer(reply: bytes, signature: Signature, media: Media, *, row_format: bool) -> bytes:
    """A PredictResponse as a body of this media; ``row_format`` is for JSON alone."""
    response = messages.parse(messages.PREDICT.response, reply)
    arrays: dict[str, np.ndarray] = {}
    for alias, tensor in response.outputs.items():
        arrays[alias] = tensors.from_proto(tensor)
    if media is Media.NPZ:
        return npy.write_zip(arrays)
    if media is Media.NPY:
        (array,) = arrays.values()
        return npy.write(array)
    return answers.predictions(arrays, signature, row_format=row_format)


def takes_npy(signature: Signature) -> bool:
    inputs = signature.inputs.values()
    return bool(inputs) and all(map(_fits_npy, inputs))


def takes_picture(signature: Signature) -> bool:
    if len(signature.inputs) != 1:
        return False
    (spec,) = signature.inputs.values()
    return spec.dtype is dtypes.STRING


def _fits_npy(spec: TensorSpec) -> bool:
    return spec.dtype is not None and spec.dtype not in _NOT_IN_NPY


def _tensor(array: np.ndarray) -> list[Any]:
    """The parts of a serialized TensorProto."""
    if array.dtype == object:
        return [tensors.to_proto(array).SerializeToString()]
    empty = np.empty((0,), array.dtype)
    head = tensors.to_proto(empty)
    dims = head.tensor_shape.dim
    del dims[:]
    for size in array.shape:
        dims.add(size=size)
    flat = np.ascontiguousarray(array).reshape(-1)
    content = flat.view(np.uint8).data
    return [head.SerializeToString(), *_field(_CONTENT_TAG, [content])]


def _field(tag: bytes, parts: list[Any]) -> list[Any]:
    size = sum(len(part) for part in parts)
    return [tag, tensors.varint(size), *parts]


def _refuse_what_npy_lacks(signature: Signature) -> None:
    for spec in signature.inputs.values():
        if spec.dtype is not None and spec.dtype in _NOT_IN_NPY:
            alternative = "gRPC"
            if spec.dtype is dtypes.STRING:
                alternative = "JSON or gRPC"
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
    shape = placeholders.smallest_shape(spec)
    if set(shape) <= {1}:
        return picture.reshape(shape)
    # The signature takes several at once, which the check will say.
    return picture
