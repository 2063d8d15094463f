"""numpy arrays in and out of TF_Tensors, by copy: nothing the graph keeps can point into numpy's
memory, nor back.

Strings go in as a TensorProto: TensorFlow then owns the cells and frees them itself, whoever holds
them last.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from headrace.protocol import dtypes, tensors
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import InvalidArgument, Unimplemented
from headrace.server.engines import capi

# Copied once more, which takes less than numpy's and ctypes' way to a pointer.
_SMALL_BYTES = 1 << 16
# TensorFlow's own; one more ends the process inside TensorShape.
MAX_RANK = 254


def to_tensor(alias: str, array: np.ndarray) -> int:
    """A new TF_Tensor with a copy of ``array``; the caller deletes it."""
    dtype = dtypes.by_numpy(array.dtype)
    if dtype is None or array.ndim > MAX_RANK:
        raise InvalidArgument(f"tensor parsing error: {alias}")
    return _from_strings(array) if dtype.is_string else _from_numbers(array, dtype)


def to_array(tensor: int) -> np.ndarray:
    """A copy of what a TF_Tensor holds."""
    lib = capi.library()
    number = lib.TF_TensorType(tensor)
    dtype = dtypes.by_number(number)
    if dtype is None:
        raise Unimplemented(f"an output of DataType {number} has no form on this wire")
    shape = tuple([lib.TF_Dim(tensor, i) for i in range(lib.TF_NumDims(tensor))])
    if not dtype.is_string and 0 < (size := lib.TF_TensorByteSize(tensor)) <= _SMALL_BYTES:
        return np.frombuffer(
            bytearray(ctypes.string_at(lib.TF_TensorData(tensor), size)), dtype.numpy
        ).reshape(shape)
    array = np.empty(shape, dtype.numpy)
    if dtype.is_string:
        array.reshape(-1)[:] = _strings(lib.TF_TensorData(tensor), array.size)
    elif array.nbytes:
        ctypes.memmove(array.ctypes.data, lib.TF_TensorData(tensor), lib.TF_TensorByteSize(tensor))
    return array


def _from_numbers(array: np.ndarray, dtype: DType) -> int:
    lib = capi.library()
    shape = array.shape
    if array.dtype != dtype.numpy or not array.flags.c_contiguous:
        array = np.ascontiguousarray(array, dtype.numpy)
    nbytes = array.nbytes
    tensor: int = lib.TF_AllocateTensor(dtype.number, _dims(len(shape))(*shape), len(shape), nbytes)
    if 0 < nbytes <= _SMALL_BYTES:
        ctypes.memmove(lib.TF_TensorData(tensor), array.tobytes(), nbytes)
    elif nbytes:
        ctypes.memmove(lib.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
    return tensor


def _from_strings(array: np.ndarray) -> int:
    lib = capi.library()
    data = tensors.to_proto(array, dtypes.STRING).SerializeToString()
    tensor: int = lib.TF_AllocateTensor(dtypes.FLOAT.number, (ctypes.c_int64 * 1)(0), 1, 0)
    try:
        with capi.checked() as status:
            lib.TF_TensorFromProto(ctypes.byref(capi.buffer_over(data)), tensor, status)
    except BaseException:
        lib.TF_DeleteTensor(tensor)
        raise
    return tensor


@functools.lru_cache(maxsize=MAX_RANK + 1)
def _dims(rank: int) -> type[ctypes.Array[ctypes.c_int64]]:
    return ctypes.c_int64 * rank


def _strings(data: int, count: int) -> list[bytes]:
    lib = capi.library()
    cells = (
        range(data, data + count * capi.STRING_CELL_BYTES, capi.STRING_CELL_BYTES) if count else ()
    )
    return [
        ctypes.string_at(lib.TF_StringGetDataPointer(c), lib.TF_StringGetSize(c)) for c in cells
    ]
