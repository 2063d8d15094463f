"""TensorFlow's C API, bound with ctypes to the libraries of the installed wheel.

Finds the wheel without importing it, declares the functions that are used, and raises our errors
for a TF_Status. Every call releases the GIL. Knows nothing of models or numpy.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import NoReturn

from headrace.protocol import errors

# sizeof(TF_TString).
STRING_CELL_BYTES = 24
# numpy crashes if the library's symbols are global.
_MODE = os.RTLD_LOCAL | os.RTLD_NOW


class Output(ctypes.Structure):
    """TF_Output: one output of one operation of a graph."""

    _fields_ = (("oper", c_void_p), ("index", c_int))


class Buffer(ctypes.Structure):
    """TF_Buffer: bytes that TensorFlow reads or has written."""

    _fields_ = (("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p))


_FUNCTIONS: dict[str, tuple[object, tuple[object, ...]]] = {
    "TF_Version": (c_char_p, ()),
    "TF_NewStatus": (c_void_p, ()),
    "TF_DeleteStatus": (None, (c_void_p,)),
    "TF_GetCode": (c_int, (c_void_p,)),
    "TF_Message": (c_char_p, (c_void_p,)),
    "TF_NewBuffer": (POINTER(Buffer), ()),
    "TF_DeleteBuffer": (None, (POINTER(Buffer),)),
    "TF_NewSessionOptions": (c_void_p, ()),
    "TF_DeleteSessionOptions": (None, (c_void_p,)),
    "TF_SetConfig": (None, (c_void_p, c_char_p, c_size_t, c_void_p)),
    "TF_NewGraph": (c_void_p, ()),
    "TF_DeleteGraph": (None, (c_void_p,)),
    "TF_GraphOperationByName": (c_void_p, (c_void_p, c_char_p)),
    "TF_OperationNumOutputs": (c_int, (c_void_p,)),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        (
            c_void_p,
            POINTER(Buffer),
            c_char_p,
            POINTER(c_char_p),
            c_int,
            c_void_p,
            POINTER(Buffer),
            c_void_p,
        ),
    ),
    "TF_CloseSession": (None, (c_void_p, c_void_p)),
    "TF_DeleteSession": (None, (c_void_p, c_void_p)),
    "TF_SessionRun": (
        None,
        (
            # The session and the run options.
            c_void_p,
            POINTER(Buffer),
            # The ends that are fed, their tensors, their number.
            c_void_p,
            c_void_p,
            c_int,
            # The same of the ends that are fetched.
            c_void_p,
            c_void_p,
            c_int,
            # The targets, their number, the run metadata and the status.
            c_void_p,
            c_int,
            c_void_p,
            c_void_p,
        ),
    ),
    "TF_AllocateTensor": (c_void_p, (c_int, c_void_p, c_int, c_size_t)),
    "TF_TensorFromProto": (None, (POINTER(Buffer), c_void_p, c_void_p)),
    "TF_DeleteTensor": (None, (c_void_p,)),
    "TF_TensorType": (c_int, (c_void_p,)),
    "TF_NumDims": (c_int, (c_void_p,)),
    "TF_Dim": (c_int64, (c_void_p, c_int)),
    "TF_TensorByteSize": (c_size_t, (c_void_p,)),
    "TF_TensorData": (c_void_p, (c_void_p,)),
    "TF_StringGetDataPointer": (c_void_p, (c_void_p,)),
    "TF_StringGetSize": (c_size_t, (c_void_p,)),
}


@functools.cache
def library() -> ctypes.CDLL:
    """The library, loaded once in the process. Raises Unavailable where TensorFlow is not
    installed."""
    # TensorFlow reads this once, when it is loaded. Its warnings are a line for each bad request,
    # about which the caller hears anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    path = library_path()
    try:
        loaded = ctypes.CDLL(str(path), mode=_MODE, handle=_dlopen(path))
    except OSError as error:
        raise errors.Unavailable(f"TensorFlow's library does not load: {error}") from error
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(loaded, name)
        function.restype = result
        function.argtypes = arguments
    return loaded


def library_path() -> Path:
    # This finds the package without importing it.
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        advice = "pip install '.[server]' in a checkout of Headrace brings it"
        raise errors.Unavailable(f"TensorFlow is not installed: {advice}")
    name = "libtensorflow_cc.2.dylib" if sys.platform == "darwin" else "libtensorflow_cc.so.2"
    for folder in spec.submodule_search_locations:
        path = Path(folder) / name
        if path.exists():
            return path
    raise errors.Unavailable(f"the installed TensorFlow has no {name}")


def _dlopen(path: Path) -> int | None:
    """The library's handle, or None where it does not load: ctypes then reports why. Loading takes
    a quarter of a second, in which ctypes itself would hold the GIL and keep a starting server from
    its imports."""
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.restype, dlopen.argtypes = c_void_p, (c_char_p, c_int)
    handle: int | None = dlopen(os.fsencode(path), _MODE)
    return handle


def version() -> str:
    return str(library().TF_Version().decode())


@contextmanager
def checked() -> Iterator[int]:
    """A TF_Status for one call. Raises the error that the call reports, with TensorFlow's text."""
    lib = library()
    status = lib.TF_NewStatus()
    try:
        yield status
        if lib.TF_GetCode(status):
            refuse(status)
    finally:
        lib.TF_DeleteStatus(status)


def refuse(status: int) -> NoReturn:
    """Raises the error of a status that is not OK."""
    lib = library()
    raise errors.from_grpc_code(
        lib.TF_GetCode(status), lib.TF_Message(status).decode("utf-8", "replace")
    )


def buffer_over(data: bytes) -> Buffer:
    """A TF_Buffer that borrows ``data``: the bytes must outlive its use."""
    return Buffer(ctypes.cast(c_char_p(data), c_void_p), len(data), None)


def buffer_bytes(buffer: Buffer) -> bytes:
    return ctypes.string_at(buffer.data, buffer.length) if buffer.length else b""
