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
_BROKEN_HEADER = (
    *_BROKEN,
    TypeError,
    KeyError,
    SyntaxError,
    MemoryError,
)


def read(data: bytes, place: JsonPath = ()) -> np.ndarray:
    """The array of one .npy file; it shares the memory of ``data`` where it can."""
    if not data.startswith(_MAGIC):
        got = "nothing"
        if data:
            got = "no npy file"
        refuse("npy", place, "an npy file", got)
    try:
        dtype, is_fortran, shape, start = _header(data)
    except _BROKEN_HEADER as error:
        got = f"a header that cannot be read ({_short(error)})"
        refuse("npy", place, "an npy file", got)

    _check_dtype(dtype, place)
    size = len(data) - start
    expected_size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != expected_size:
        expected = f"{expected_size} bytes for shape {shape} of {dtype}"
        got = f"{size} bytes"
        refuse("npy", place, expected, got)

    flat = np.empty(0, dtype)
    if size:
        flat = np.frombuffer(data, dtype, offset=start)
    try:
        if is_fortran:
            array = flat.reshape(shape[::-1]).T
        else:
            array = flat.reshape(shape)
    except ValueError as error:
        # Numpy's own limits of rank and size.
        got = f"shape of rank {len(shape)} ({_short(error)})"
        refuse("npy", place, "a shape that can be held", got)

    if dtype == np.bool_ and size:
        octets = flat.view(np.uint8)
        if octets.max() > 1:
            refuse("npy", place, "bools of 0 and 1", "a byte that is neither")
    native = dtype.newbyteorder("=")
    return np.ascontiguousarray(array, native).reshape(shape)


def read_zip(data: bytes, *, limit: int) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, at most ``limit`` bytes of them once inflated."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members, limit)
            arrays = {}
            for member in members:
                name = _name(member)
                content = _content(archive, member)
                arrays[name] = read(content, (name,))
            return arrays
    except _BROKEN as error:
        got = "nothing"
        if data:
            got = f"a zip archive that cannot be read ({_short(error)})"
        refuse("npy", (), "an npz file", got)


def write(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    # A scalar is made an array of one dimension on the way.
    contiguous = np.ascontiguousarray(array)
    np.lib.format.write_array(file, contiguous.reshape(array.shape), allow_pickle=False)
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
    if end > len(data):
        raise ValueError("cut short")
    if end > _MAX_HEADER_BYTES or b"\\" in data[start:end]:
        raise ValueError("too long, or not numpy's")

    text = data[start:end].decode("latin-1")
    header = ast.literal_eval(text.strip())
    descr = header["descr"]
    is_fortran = header["fortran_order"]
    shape = header["shape"]
    is_shape = type(shape) is tuple and set(map(type, shape)) <= {int}
    if len(header) != 3 or type(is_fortran) is not bool or not is_shape:
        raise ValueError("not of dtype, order and shape")

    if not isinstance(descr, str):
        record = np.dtype([("record", "u1")])
        return record, is_fortran, shape, end
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
    text = faults.our_text(fault)
    return UnsupportedMedia(text, fault=fault)


def _check_members(members: list[zipfile.ZipInfo], limit: int) -> None:
    names = [_name(member) for member in members]
    if not names or len(names) > _MAX_ARRAYS:
        refuse("npy", (), f"1 to {_MAX_ARRAYS} arrays", f"{len(names)} arrays")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        refuse("duplicate_key", (twice,), "", "")
    sizes = [member.file_size for member in members]
    if sum(sizes) > limit:
        raise BodyTooLarge(
            f"the arrays are larger than {limit} bytes once inflated (HEADRACE_MAX_BODY_BYTES)"
        )
    for member in members:
        if member.flag_bits & 1 or member.compress_type not in _ZIPPED:
            refuse(
                "npy",
                (_name(member),),
                "an array stored or deflated",
                "one packed in another way",
            )


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """At most as many bytes as the directory says, which were counted before; zipfile checks the
    sum of them."""
    with archive.open(member) as file:
        content = file.read(member.file_size + 1)
    if len(content) != member.file_size:
        refuse(
            "npy",
            (_name(member),),
            f"{member.file_size} bytes",
            f"{len(content)} bytes",
        )
    return content


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _short(error: BaseException) -> str:
    first_line = str(error).split("\n")[0]
    return first_line[:100]
