"""The one dtype table: TensorFlow's name and number, numpy's dtype, the TensorProto field it
travels in.

Strings are numpy object arrays of ``bytes``. Types that no wire of ours carries as an array
(resource, variant, the quantised and sub-byte ones) are not in the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

# A reference variable's dtype is its value's number plus this.
REF_OFFSET = 100


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """``name`` is TensorFlow's lower-case word ("float"), ``enum`` its DT_ word, ``field`` its
    TensorProto field.

    There is one of each, so they are compared and looked up as objects."""

    name: str
    number: int
    numpy: np.dtype
    field: str

    @property
    def enum(self) -> str:
        return f"DT_{self.name.upper()}"

    @property
    def is_string(self) -> bool:
        return self.number == 7

    @property
    def word(self) -> str:
        """What a sentence calls it: a caller has text, and only TensorFlow's own names say
        string."""
        return "text" if self.is_string else self.name

    def __str__(self) -> str:
        return self.name


FLOAT = DType("float", 1, np.dtype(np.float32), "float_val")
DOUBLE = DType("double", 2, np.dtype(np.float64), "double_val")
INT32 = DType("int32", 3, np.dtype(np.int32), "int_val")
UINT8 = DType("uint8", 4, np.dtype(np.uint8), "int_val")
INT16 = DType("int16", 5, np.dtype(np.int16), "int_val")
INT8 = DType("int8", 6, np.dtype(np.int8), "int_val")
STRING = DType("string", 7, np.dtype(object), "string_val")
COMPLEX64 = DType("complex64", 8, np.dtype(np.complex64), "scomplex_val")
INT64 = DType("int64", 9, np.dtype(np.int64), "int64_val")
BOOL = DType("bool", 10, np.dtype(np.bool_), "bool_val")
BFLOAT16 = DType("bfloat16", 14, np.dtype(ml_dtypes.bfloat16), "half_val")
UINT16 = DType("uint16", 17, np.dtype(np.uint16), "int_val")
COMPLEX128 = DType("complex128", 18, np.dtype(np.complex128), "dcomplex_val")
HALF = DType("half", 19, np.dtype(np.float16), "half_val")
UINT32 = DType("uint32", 22, np.dtype(np.uint32), "uint32_val")
UINT64 = DType("uint64", 23, np.dtype(np.uint64), "uint64_val")

ALL: tuple[DType, ...] = (
    FLOAT,
    DOUBLE,
    INT32,
    UINT8,
    INT16,
    INT8,
    STRING,
    COMPLEX64,
    INT64,
    BOOL,
    BFLOAT16,
    UINT16,
    COMPLEX128,
    HALF,
    UINT32,
    UINT64,
)
_BY_NUMBER = {d.number: d for d in ALL}
_BY_NUMPY = {d.numpy: d for d in ALL}


def by_number(number: int) -> DType | None:
    """The row for a DataType number, reference types counted as their value's type; None for what
    we do not carry."""
    return _BY_NUMBER.get(number - REF_OFFSET if number > REF_OFFSET else number)


def by_numpy(dtype: np.dtype) -> DType | None:
    """The row for a numpy dtype; numpy's own string kinds ("S", "U", "T") count as STRING."""
    if dtype.kind in "SUT":
        return STRING
    return _BY_NUMPY.get(dtype) or _BY_NUMPY.get(dtype.newbyteorder("="))


def cast_hint(have: DType, wanted: DType) -> str:
    """ " (float64: .astype('float32'))": how numpy makes the one of the other; nothing where it
    cannot."""
    if have.is_string or wanted.is_string:
        return ""
    return f" ({have.numpy.name}: .astype('{wanted.numpy.name}'))"
