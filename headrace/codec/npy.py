"""numpy's files: .npy and .npz bodies -> arrays, and arrays -> bodies. Nothing is allocated for
what a header claims.

An object array is a pickle, and a pickle is a program: it is refused before anything looks into it.
"""

from __future__ import annotations

import ast
import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.protocol import dtypes, faults
from headrace.protocol.errors import BodyTooLarge, UnsupportedMedia
from headrace.protocol.faults import Fault, JsonPath
from headrace.protocol.refusals import refuse
from headrace.protocol.signatures import Shape

_MAX_ARRAYS = 256
_MAGIC = b"\x93NUMPY"
# Of the header, by the format's version.
_SIZES = {1: struct.Struct("<H"), 2: struct.Struct("<I")}
_MAX_HEADER_BYTES = 10_000
_DESCR = re.compile(r"[<>|=]?[biufcSUVOMm?]\d{0,9}(?:\[\w+\])?")
_ZIPPED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    IndexError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
    struct.error,
)


def read(data: bytes, place: JsonPath = ()) -> np.ndarray:
    """The array of one .npy file; it shares the memory of ``data`` where it can."""
    if not data.startswith(_MAGIC):
        refuse("npy", place, "an npy file", "no npy file" if data else "nothing")
    try:
        dtype, is_fortran, shape, start = _header(data)
    except (*_BROKEN, TypeError, KeyError, SyntaxError, MemoryError) as e:
        refuse("npy", place, "an npy file", f"a header that cannot be read ({_short(e)})")
    _check_dtype(dtype, place)
    size, expected_size = len(data) - start, math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != expected_size:
        expected = f"{expected_size} bytes for shape {shape} of {dtype}"
        refuse("npy", place, expected, f"{size} bytes")
    flat = np.frombuffer(data, dtype, offset=start) if size else np.empty(0, dtype)
    try:
        array = flat.reshape(shape[::-1]).T if is_fortran else flat.reshape(shape)
    except ValueError as e:
        # Numpy's own limits of rank and size.
        got = f"shape of rank {len(shape)} ({_short(e)})"
        refuse("npy", place, "a shape that can be held", got)
    if dtype == np.bool_ and array.size and flat.view(np.uint8).max() > 1:
        refuse("npy", place, "bools of 0 and 1", "a byte that is neither")
    return np.ascontiguousarray(array, dtype.newbyteorder("=")).reshape(shape)


def read_zip(data: bytes, *, limit: int) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, at most ``limit`` bytes of them once inflated."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members, limit)
            return {_name(m): read(_content(archive, m), (_name(m),)) for m in members}
    except _BROKEN as e:
        got = f"a zip archive that cannot be read ({_short(e)})" if data else "nothing"
        refuse("npy", (), "an npz file", got)


def write(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    contiguous = np.ascontiguousarray(array).reshape(array.shape)
    np.lib.format.write_array(file, contiguous, allow_pickle=False)
    return file.getvalue()


def write_zip(arrays: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", write(array))
    return file.getvalue()


def _header(data: bytes) -> tuple[np.dtype, bool, Shape, int]:
    """dtype, whether column-major, shape, and where the data begins.

    By our own hand: numpy's way tries to mend what Python 2 wrote, and fails there in ways of its
    own.
    """
    size: Any = _SIZES[data[6]]
    start = 8 + size.size
    end = start + size.unpack_from(data, 8)[0]
    if end > len(data) or end > _MAX_HEADER_BYTES or b"\\" in data[start:end]:
        raise ValueError("cut short" if end > len(data) else "too long, or not numpy's")
    header = ast.literal_eval(data[start:end].decode("latin-1").strip())
    descr, is_fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    is_shape = type(shape) is tuple and all(type(size) is int for size in shape)
    if len(header) != 3 or type(is_fortran) is not bool or not is_shape:
        raise ValueError("not of dtype, order and shape")
    if not isinstance(descr, str):
        return np.dtype([("record", "u1")]), is_fortran, shape, end
    if not _DESCR.fullmatch(descr):
        raise ValueError("unknown dtype")
    return np.dtype(descr), is_fortran, shape, end


def _check_dtype(dtype: np.dtype, place: JsonPath) -> None:
    if dtype.hasobject:
        raise _unsupported(
            "objects", place, "an object array is a pickle, which is never read; send text as JSON"
        )
    if dtype.kind in "SU":
        raise _unsupported(
            "text", place, "npy has no text of any length; send it as JSON or over gRPC"
        )
    if dtype.kind == "V" and dtype.names is None:
        raise _unsupported(
            "raw bytes", place, "bfloat16 and its like have no npy type; send them over gRPC"
        )
    if dtypes.by_numpy(dtype) is None:
        raise _unsupported(str(dtype), place, "no TensorFlow dtype is like it")


def _unsupported(what: str, place: JsonPath, why: str) -> UnsupportedMedia:
    fault = Fault("npy_dtype", place, "numbers or bools", what, facts={"reason": why})
    return UnsupportedMedia(faults.our_text(fault), fault=fault)


def _check_members(members: list[zipfile.ZipInfo], limit: int) -> None:
    names = [_name(m) for m in members]
    if not names or len(names) > _MAX_ARRAYS:
        refuse("npy", (), f"1 to {_MAX_ARRAYS} arrays", f"{len(names)} arrays")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        refuse("duplicate_key", (twice,), "", "")
    if sum(m.file_size for m in members) > limit:
        raise BodyTooLarge(
            f"the arrays are larger than {limit} bytes once inflated (HEADRACE_MAX_BODY_BYTES)"
        )
    for member in members:
        if member.flag_bits & 1 or member.compress_type not in _ZIPPED:
            refuse(
                "npy", (_name(member),), "an array stored or deflated", "one packed in another way"
            )


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """At most as many bytes as the directory says, which were counted before; zipfile checks the
    sum of them."""
    with archive.open(member) as file:
        content = file.read(member.file_size + 1)
    if len(content) != member.file_size:
        refuse("npy", (_name(member),), f"{member.file_size} bytes", f"{len(content)} bytes")
    return content


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _short(e: BaseException) -> str:
    return str(e).split("\n")[0][:100]
