"""A caller's values as a signature's tensors: every cast that is made and every one that is
refused."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from headrace.client.casting import cast_inputs
from headrace.protocol import dtypes
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import HeadraceError, InvalidArgument, Unimplemented
from headrace.protocol.signatures import Signature, TensorSpec


def signature(**taken: DType | None) -> Signature:
    specs = {name: TensorSpec(name, f"{name}:0", dtype, (-1,), 20) for name, dtype in taken.items()}
    return Signature("serving_default", specs, {})


def cast(value: Any, dtype: DType | None) -> np.ndarray:
    return cast_inputs(value, signature(x=dtype), model="m")["x"]


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        pytest.param([1.0, 2.5], dtypes.FLOAT, np.float32([1.0, 2.5]), id="lists to float"),
        pytest.param([1, 2], dtypes.FLOAT, np.float32([1, 2]), id="integers to float"),
        pytest.param([True, False], dtypes.DOUBLE, np.float64([1, 0]), id="bool to double"),
        pytest.param([0, 255], dtypes.UINT8, np.uint8([0, 255]), id="int64 to uint8 in range"),
        pytest.param([2**63], dtypes.UINT64, np.uint64([2**63]), id="beyond int64"),
        pytest.param([], dtypes.INT32, np.int32([]), id="an empty list has no kind"),
        pytest.param(3.5, dtypes.FLOAT, np.float32(3.5), id="scalar"),
        pytest.param([1.5], dtypes.BFLOAT16, np.array([1.5], ml_dtypes.bfloat16), id="to bfloat16"),
        pytest.param(
            np.array([1.5], ml_dtypes.bfloat16), dtypes.FLOAT, np.float32([1.5]), id="from bfloat16"
        ),
        pytest.param([1.5], dtypes.COMPLEX64, np.complex64([1.5]), id="to complex"),
        pytest.param(
            np.array([1, 2], ">i4"), dtypes.INT32, np.int32([1, 2]), id="foreign byte order"
        ),
        pytest.param(
            [np.inf, -np.inf], dtypes.FLOAT, np.float32([np.inf, -np.inf]), id="infinity stays"
        ),
    ],
)
def test_a_value_becomes_the_inputs_dtype(value: Any, dtype: DType, expected: Any) -> None:
    array = cast(value, dtype)
    assert array.dtype == dtype.numpy
    np.testing.assert_array_equal(array, expected)
    assert array.shape == np.shape(expected)


def test_an_array_that_fits_is_not_copied() -> None:
    array = np.ones((2, 3), np.float32)
    assert cast(array, dtypes.FLOAT) is array


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        pytest.param(
            [1.5],
            dtypes.INT32,
            r"^x: float64 values, expected int32 \(float64: \.astype\('int32'\)\); cast",
            id="float to int",
        ),
        pytest.param([1.0], dtypes.BOOL, r"^x: float64 values, expected bool", id="float to bool"),
        pytest.param([1], dtypes.BOOL, r"^x: int64 values, expected bool", id="int to bool"),
        pytest.param(
            [1j], dtypes.FLOAT, r"^x: complex128 values, expected float", id="complex to float"
        ),
        pytest.param(
            [256],
            dtypes.UINT8,
            r"^x: a value is outside uint8, which holds 0 to 255",
            id="too large",
        ),
        pytest.param([-1], dtypes.UINT64, r"^x: a value is outside uint64", id="negative"),
        pytest.param(
            [2**70], dtypes.INT64, r"^x: object values, expected int64", id="beyond every integer"
        ),
        pytest.param(
            [1e300], dtypes.FLOAT, r"^x: a value is too large for float", id="double overflow"
        ),
        pytest.param([1e6], dtypes.HALF, r"^x: a value is too large for half", id="half overflow"),
        pytest.param([[1, 2], [3]], dtypes.FLOAT, r"^x: the nested lists are ragged", id="ragged"),
        pytest.param(["a"], dtypes.FLOAT, r"^x: text, expected float$", id="text to float"),
        pytest.param([None], dtypes.FLOAT, r"^x: object values, expected float", id="none"),
        pytest.param(
            [1], dtypes.STRING, r"^x: int, expected text \(str or bytes\)$", id="number to string"
        ),
        pytest.param([["a"], ["b", "c"]], dtypes.STRING, r"^x: ", id="ragged strings"),
    ],
)
def test_a_cast_that_would_change_the_meaning_is_refused(
    value: Any, dtype: DType, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        cast(value, dtype)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("é", b"\xc3\xa9", id="one text is a scalar"),
        pytest.param([b"a\0", "b"], [b"a\0", b"b"], id="zero bytes at the end stay"),
        pytest.param(np.array([["ab", "c"]]), [[b"ab", b"c"]], id="numpy text"),
        pytest.param(np.array([b"ab"]), [b"ab"], id="numpy bytes"),
        pytest.param([], [], id="none"),
    ],
)
def test_strings_travel_as_bytes(value: Any, expected: Any) -> None:
    array = cast(value, dtypes.STRING)
    assert array.dtype == object
    assert array.tolist() == expected


def test_many_inputs_come_by_name() -> None:
    arrays = cast_inputs({"b": [1], "a": [2]}, signature(a=dtypes.FLOAT, b=dtypes.INT32), model="m")
    assert {name: a.dtype for name, a in arrays.items()} == {"a": np.float32, "b": np.int32}


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (
            [1.0],
            InvalidArgument,
            r"^m: give a dict, because signature serving_default takes a \(float \(\?,\)\), b "
            r"\(int",
        ),
        (
            {"a": [1.0], "c": [1]},
            InvalidArgument,
            r"^m: no input 'c'; signature serving_default takes a \(float",
        ),
        ({"z": [1.0]}, Unimplemented, r"^z: its dtype cannot be sent over the wire"),
    ],
)
def test_an_unknown_input_is_refused_with_the_names_that_exist(
    value: Any, error: type[HeadraceError], message: str
) -> None:
    with pytest.raises(error, match=message):
        cast_inputs(value, signature(a=dtypes.FLOAT, b=dtypes.INT32, z=None), model="m")
