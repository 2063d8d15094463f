"""numpy arrays to TF_Tensors and back. Both ways copy, so that neither side points into the other's
memory.

Strings go in as a TensorProto: TensorFlow then owns the cells and frees them itself.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from headrace.protocol import dtypes, tensors
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import InvalidArgument, Unimplemented
from headrace.server.engines import capi

# Up to this size a second copy is quicker than getting a pointer from numpy through ctypes.
_SMALL_BYTES = 1 << 16
# TensorFlow's limit; a tensor of a higher rank ends the process inside TensorShape.
MAX_RANK = 254


def to_tensor(alias: str, array: np.ndarray) -> int:
    """A new TF_Tensor with a copy of ``array``; the caller deletes it."""
    dtype = dtypes.by_numpy(array.dtype)
    if dtype is None or array.ndim > MAX_RANK:
        raise InvalidArgument(f"tensor parsing error: {alias}")
    if dtype is dtypes.STRING:
        return _from_strings(array)
    return _from_numbers(array, dtype)


def to_array(tensor: int) -> np.ndarray:
    """A copy of what a TF_Tensor holds."""
    lib = capi.library()
    number = lib.TF_TensorType(tensor)
    dtype = dtypes.by_number(number)
    if dtype is None:
        raise Unimplemented(f"an output of DataType {number} has no form on this wire")
    rank = lib.TF_NumDims(tensor)
    shape = tuple([lib.TF_Dim(tensor, i) for i in range(rank)])
    data = lib.TF_TensorData(tensor)
    if dtype is dtypes.STRING:
        array = np.empty(shape, object)
        array.reshape(-1)[:] = _strings(data, array.size)
        return array
    size = lib.TF_TensorByteSize(tensor)
    if 0 < size <= _SMALL_BYTES:
        copy = bytearray(_byte_array(size).from_address(data))
        return np.frombuffer(copy, dtype.numpy).reshape(shape)
    array = np.empty(shape, dtype.numpy)
    if size:
        ctypes.memmove(array.ctypes.data, data, size)
    return array


def _from_numbers(array: np.ndarray, dtype: DType) -> int:
    lib = capi.library()
    shape = array.shape
    if array.dtype != dtype.numpy or not array.flags.c_contiguous:
        array = np.ascontiguousarray(array, dtype.numpy)
    size = array.nbytes
    rank = len(shape)
    dims = _dims(rank)(*shape)
    tensor: int = lib.TF_AllocateTensor(dtype.number, dims, rank, size)
    if not size:
        return tensor
    data = lib.TF_TensorData(tensor)
    if size <= _SMALL_BYTES:
        ctypes.memmove(data, array.tobytes(), size)
    else:
        ctypes.memmove(data, array.ctypes.data, size)
    return tensor


def _from_strings(array: np.ndarray) -> int:
    lib = capi.library()
    data = tensors.to_proto(array, dtypes.STRING).SerializeToString()
    # An empty tensor, which TF_TensorFromProto replaces.
    dims = _dims(1)(0)
    tensor: int = lib.TF_AllocateTensor(dtypes.FLOAT.number, dims, 1, 0)
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


# Sizes are bounded by _SMALL_BYTES, but callers choose them.
@functools.lru_cache(maxsize=1024)
def _byte_array(size: int) -> type[ctypes.Array[ctypes.c_char]]:
    return ctypes.c_char * size


def _strings(data: int, count: int) -> list[bytes]:
    lib = capi.library()
    strings = []
    for i in range(count):
        cell = data + i * capi.STRING_CELL_BYTES
        size = lib.TF_StringGetSize(cell)
        strings.append(ctypes.string_at(lib.TF_StringGetDataPointer(cell), size))
    return strings
