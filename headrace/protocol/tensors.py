"""numpy arrays <-> TensorProto, and what a TensorProto says of itself without decoding it.

The rules are TensorFlow's: tensor_content is the exact bytes; in the typed fields fewer values than
elements repeat the last one, none mean zeros, more are ignored; a tensor without elements ignores
whatever was sent.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from headrace.protocol import dtypes, messages
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import InvalidArgument
from headrace.protocol.signatures import Shape, shape_text

# TensorFlow's own limit.
MAX_RANK = 254
# Of a tensor that sent fewer values than its shape holds, so that a few bytes cannot claim much
# memory: 16 MiB of floats; a string costs 100 bytes on its way into TensorFlow.
MAX_ELEMENTS = 1 << 22
MAX_STRINGS = 1 << 17
_INT64_MAX = (1 << 63) - 1
_TensorProto = messages.TensorProto
_NUMBERS = {field.name: field.number for field in _TensorProto.DESCRIPTOR.fields}
# The byte before a packed field: its number, and 2 for "length-delimited".
_PACKED_TAGS = {
    "float_val": bytes([_NUMBERS["float_val"] << 3 | 2]),
    "double_val": bytes([_NUMBERS["double_val"] << 3 | 2]),
    "scomplex_val": bytes([_NUMBERS["scomplex_val"] << 3 | 2]),
    "dcomplex_val": bytes([_NUMBERS["dcomplex_val"] << 3 | 2]),
}


def to_proto(array: ArrayLike, dtype: DType | None = None, *, as_content: bool = True) -> Any:
    """The array as a TensorProto: its bytes as tensor_content, or typed values as TensorFlow
    Serving answers.

    Strings always travel as values. ``dtype`` converts where no value changes its meaning.
    """
    try:
        array = np.asarray(array)
    except ValueError as error:
        # Ragged lists.
        raise InvalidArgument(f"not a tensor: {error}") from error
    row = dtypes.by_numpy(array.dtype)
    if row is None or (dtype is not None and dtype is not row):
        array, row = _converted(array, dtype)
    elif not array.dtype.isnative:
        array = array.astype(row.numpy)

    proto = _TensorProto(dtype=row.number)
    # A scalar says so by a shape without dimensions.
    proto.tensor_shape.SetInParent()
    add_dim = proto.tensor_shape.dim.add
    for size in array.shape:
        add_dim(size=size)
    if row.is_string:
        proto.string_val.extend(_as_bytes(array))
    elif as_content:
        proto.tensor_content = _wire_bytes(array)
    elif row.field in _PACKED_TAGS:
        # Packed floats are their bytes: 784 of them take 3 us, not the 18 of a list, and every NaN
        # stays itself.
        content = _wire_bytes(array)
        tag = _PACKED_TAGS[row.field]
        proto.MergeFromString(tag + varint(len(content)) + content)
    else:
        flat = array.ravel()
        if row.field == "half_val":
            flat = flat.view(np.uint16)
        values = getattr(proto, row.field)
        values.extend(flat.tolist())
    return proto


def from_proto(proto: Any, *, max_elements: int = MAX_ELEMENTS) -> np.ndarray:
    """The tensor as an array, read-only where it shares the message's bytes; strings as an object
    array of bytes."""
    row, shape = described(proto, max_elements=max_elements)
    count = _count(shape)
    try:
        if count == 0:
            return np.empty(shape, row.numpy)
        if row.is_string:
            flat = _strings(proto, count)
        elif proto.tensor_content:
            flat = _from_content(proto.tensor_content, row)
        else:
            values = getattr(proto, row.field)
            sent = _from_values(values, row, count)
            flat = _filled(sent, row, count)
        return flat.reshape(shape)
    except ValueError as error:
        # Numpy stops at rank 64 and at sizes whose product leaves the address space.
        raise InvalidArgument(
            f"a tensor of shape {shape_text(shape)} cannot be held: {error}"
        ) from error


def described(proto: Any, *, max_elements: int = MAX_ELEMENTS) -> tuple[DType, Shape]:
    """dtype and shape, after checking that what was sent fits them; no value is read, nothing that
    big allocated."""
    number = proto.dtype
    row = None
    if number < dtypes.REF_OFFSET:
        row = dtypes.by_number(number)
    if row is None:
        raise InvalidArgument(f"tensor of dtype {dtype_word(number)} cannot be carried")

    shape = shape_of(proto)
    count = _count(shape)
    if count == 0:
        return row, shape
    if content := proto.tensor_content:
        _check_content(content, row, shape, count)
        return row, shape

    sent = len(getattr(proto, row.field))
    if row.numpy.kind == "c":
        sent //= 2
    if row.is_string:
        max_elements = min(max_elements, MAX_STRINGS)
    if sent < count and count > max_elements:
        raise InvalidArgument(
            f"tensor says shape {shape_text(shape)}, {count} elements, but holds {sent} values; "
            f"at most {max_elements} elements are filled up"
        )
    return row, shape


def shape_of(proto: Any) -> Shape:
    """The dimensions; InvalidArgument for an unknown rank, a negative dimension or more elements
    than int64 counts."""
    message = proto.tensor_shape
    if message.unknown_rank:
        raise InvalidArgument("tensor has a shape of unknown rank")
    sizes = [dim.size for dim in message.dim]
    shape = tuple(sizes)
    rank = len(shape)
    if rank > MAX_RANK:
        raise InvalidArgument(f"tensor has rank {rank}, at most {MAX_RANK} is possible")
    count = 1
    for size in shape:
        if size < 0:
            raise InvalidArgument(f"tensor has a negative dimension: {list(shape)}")
        count *= size
        if count > _INT64_MAX:
            raise InvalidArgument(
                f"tensor of shape {shape_text(shape)} has more elements than can be counted"
            )
    return shape


def dtype_word(number: int) -> str:
    """DT_QINT8 for 11; the bare number for one the protocol does not know."""
    enum = messages.enum("tensorflow.DataType")
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    return str(value.name)


def _count(shape: Shape) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _check_content(content: bytes, row: DType, shape: Shape, count: int) -> None:
    if row.is_string:
        _string_lengths(content, count)
        return
    wanted = count * row.numpy.itemsize
    if len(content) != wanted:
        raise InvalidArgument(
            f"tensor says shape {shape_text(shape)} of {row}, {wanted} bytes, but tensor_content "
            f"holds {len(content)}"
        )


def _from_content(content: bytes, row: DType) -> np.ndarray:
    # A byte beyond 0 and 1 would make a bool that is neither.
    if row is dtypes.BOOL:
        numbers = np.frombuffer(content, np.uint8)
        return numbers.astype(np.bool_)
    if sys.byteorder == "little":
        return np.frombuffer(content, row.numpy)
    little_endian = np.frombuffer(content, row.numpy.newbyteorder("<"))
    return little_endian.astype(row.numpy)


def _from_values(values: Any, row: DType, count: int) -> np.ndarray:
    """What the typed field holds, at most ``count`` elements, in the row's numpy dtype."""
    if row.numpy.kind == "c":
        part: type[np.floating] = np.float64
        if row is dtypes.COMPLEX64:
            part = np.float32
        part_count = 2 * min(len(values) // 2, count)
        parts = np.fromiter(values[:part_count], part, part_count)
        return parts.view(row.numpy)

    if len(values) > count:
        values = values[:count]
    if row.field == "half_val":
        bits = np.fromiter(values, np.int32, len(values))
        return bits.astype(np.uint16).view(row.numpy)
    if row.field == "int_val":
        integers = np.fromiter(values, np.int32, len(values))
        return integers.astype(row.numpy, copy=False)
    return np.fromiter(values, row.numpy, len(values))


def _filled(array: np.ndarray, row: DType, count: int) -> np.ndarray:
    if len(array) == count:
        return array
    if len(array) == 0:
        return np.zeros(count, row.numpy)
    sent = len(array)
    full = np.empty(count, row.numpy)
    full[:sent] = array
    full[sent:] = array[-1]
    return full


def _strings(proto: Any, count: int) -> np.ndarray:
    if proto.tensor_content:
        values = _split_strings(proto.tensor_content, count)
    else:
        values = list(proto.string_val[:count])

    last = b""
    if values:
        last = values[-1]
    values += [last] * (count - len(values))

    array = np.empty(count, object)
    array[:] = values
    return array


def _split_strings(content: bytes, count: int) -> list[bytes]:
    lengths, start = _string_lengths(content, count)
    values = []
    for length in lengths:
        values.append(content[start : start + length])
        start += length
    return values


def _string_lengths(content: bytes, count: int) -> tuple[list[int], int]:
    """Strings in tensor_content are all the lengths as varints, then all the bytes."""
    lengths: list[int] = []
    at = 0
    length = 0
    shift = 0
    for byte in content:
        if len(lengths) == count:
            break
        if shift == 35:
            break
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            lengths.append(length)
            length = 0
            shift = 0
    if len(lengths) != count or at + sum(lengths) != len(content):
        raise InvalidArgument(
            f"tensor says {count} strings, but its tensor_content does not hold exactly those"
        )
    return lengths, at


def _wire_bytes(array: np.ndarray) -> bytes:
    """Row-major and little-endian, as TensorFlow's hosts are."""
    if sys.byteorder == "little":
        return array.tobytes()
    if array.dtype.itemsize == 1:
        return array.tobytes()
    if array.dtype.kind == "c":
        array = array.ravel().view(array.real.dtype)
    return array.byteswap().tobytes()


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _as_bytes(array: np.ndarray) -> list[bytes]:
    values: list[Any] = array.ravel().tolist()
    if array.dtype.kind == "S":
        return values
    try:
        return [value if isinstance(value, bytes) else value.encode() for value in values]
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"a string tensor holds text that is not Unicode: {error.reason}"
        ) from error
    except AttributeError as error:
        wrong = next(value for value in values if not isinstance(value, bytes | str))
        type_name = type(wrong).__name__
        raise InvalidArgument(f"a string tensor holds a {type_name}: {wrong!r:.80}") from error


def _converted(array: np.ndarray, dtype: DType | None) -> tuple[np.ndarray, DType]:
    """The array in ``dtype``, refusing what would lose meaning: 1.5 or 300 into uint8, numbers into
    strings."""
    if dtype is None:
        raise InvalidArgument(f"numpy dtype {array.dtype} has no TensorFlow dtype")
    if dtype.is_string or array.dtype.kind in "OSUT":
        raise InvalidArgument(f"numpy dtype {array.dtype} does not convert to {dtype}")

    if np.can_cast(array.dtype, dtype.numpy, "same_kind"):
        try:
            with np.errstate(over="raise"):
                return array.astype(dtype.numpy), dtype
        except FloatingPointError as error:
            raise InvalidArgument(f"a value of the array is too large for {dtype}") from error

    if array.dtype.kind in "iu" and dtype.numpy.kind in "iu":
        limits = np.iinfo(dtype.numpy)
        if array.size == 0:
            return array.astype(dtype.numpy), dtype
        if array.min() >= limits.min and array.max() <= limits.max:
            return array.astype(dtype.numpy), dtype
    raise InvalidArgument(f"numpy dtype {array.dtype} does not convert to {dtype} without loss")
