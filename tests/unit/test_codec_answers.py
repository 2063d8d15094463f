from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from headrace.codec import answers
from headrace.codec.json.decimals import decimals
from headrace.protocol import dtypes, messages
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import InvalidArgument
from headrace.protocol.signatures import Signature, TensorSpec


def signature(**outputs: DType) -> Signature:
    return Signature(
        "s", {}, {n: TensorSpec(n, f"{n}:0", d, None, d.number) for n, d in outputs.items()}
    )


def strings(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1, "1.0"),
        (-0.0, "-0.0"),
        (999999, "999999.0"),
        (1e6, "1e+06"),
        (9000000, "9e+06"),
        (1234567, "1234567.0"),
        (8388610, "8.38861e+06"),
        (16777216, "16777216.0"),
        (123456789, "123456792.0"),
        (1435774380, "1.43577434e+09"),
        (0.333333343, "0.333333343"),
        (3e-5, "3e-05"),
        (-2.5e-10, "-2.5e-10"),
        (1e20, "1e+20"),
        (3.4028235e38, "3.40282347e+38"),
        (1e-45, "1.4013e-45"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_floats_are_written_as_recorded(value: float, text: str) -> None:
    assert decimals(np.array([value], np.float32)) == [text.encode()]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1 / 3, "0.33333333333333331"),
        (1e300, "1e+300"),
        (123456789.0, "123456789.0"),
        (5e-324, "4.94066e-324"),
    ],
)
def test_doubles_fall_back_to_seventeen_digits(value: float, text: str) -> None:
    assert decimals(np.array([value])) == [text.encode()]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_every_decimal_reads_back(dtype: type, data: Any) -> None:
    array = data.draw(hnp.arrays(dtype, st.integers(1, 20), elements={"allow_nan": False}))
    with np.errstate(over="ignore"):
        back = np.array([float(text) for text in decimals(array)]).astype(dtype)
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"y": np.float32([3, 3.5])}, '{\n    "predictions": [3.0, 3.5\n    ]\n}'),
        (
            {"y": np.float32([[2.5, 3], [3.5, 4]])},
            '{\n    "predictions": [[2.5, 3.0], [3.5, 4.0]\n    ]\n}',
        ),
        ({"y": np.int64([[[1], [2]]])}, '{\n    "predictions": [[[1], [2]]\n    ]\n}'),
        ({"y": np.zeros((0, 3), np.float32)}, '{\n    "predictions": []\n}'),
        ({"y": np.zeros((2, 0), np.float32)}, '{\n    "predictions": [[], []\n    ]\n}'),
        ({"y": np.zeros((1, 2, 0), np.int32)}, '{\n    "predictions": [[[], []]\n    ]\n}'),
        ({"y": np.zeros((1, 0, 2), np.int32)}, '{\n    "predictions": [[]\n    ]\n}'),
        (
            {"b_bytes": strings(b"hi", b"\x80")},
            '{\n    "predictions": [{\n            "b64": "aGk="\n        }, {\n'
            '            "b64": "gA=="\n        }\n    ]\n}',
        ),
        (
            {"b": np.array([[1, 2]], np.int32), "a": np.array([True])},
            '{\n    "predictions": [\n        {\n            "a": true,\n            "b": [1, '
            "2]\n        }\n    ]\n}",
        ),
        (
            {"a_bytes": strings(b"hi"), "b": np.uint64([(1 << 64) - 1])},
            '{\n    "predictions": [\n        {\n'
            '            "a_bytes": {\n                "b64": "aGk="\n            },\n'
            '            "b": 18446744073709551615\n        }\n    ]\n}',
        ),
    ],
)
def test_row_answers(arrays: dict[str, np.ndarray], text: str) -> None:
    assert answers.predictions(arrays, None, row_format=True) == text.encode()


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"y": np.float32(2.5)}, '{\n    "outputs": 2.5\n}'),
        (
            {"y": np.float32([[1], [2]])},
            '{\n    "outputs": [\n        [\n            1.0\n        ],\n'
            "        [\n            2.0\n        ]\n    ]\n}",
        ),
        ({"y": np.zeros(0, np.float32)}, '{\n    "outputs": []\n}'),
        (
            {"y": np.zeros((2, 0), np.float32)},
            '{\n    "outputs": [\n        [],\n        []\n    ]\n}',
        ),
        ({"y": np.zeros((0, 2), np.float32)}, '{\n    "outputs": []\n}'),
        (
            {"y_bytes": strings(b"hello")},
            '{\n    "outputs": [\n        {\n            "b64": "aGVsbG8="\n        }\n    ]\n}',
        ),
        ({"y": strings(b'a"\n\xff')[0:1].reshape(())}, '{\n    "outputs": "a\\"\\n\udcff"\n}'),
        (
            {"b": np.int8([1]), "a": np.float64(0.5)},
            '{\n    "outputs": {\n        "a": 0.5,\n        "b": [\n            1\n        ]\n   '
            " }\n}",
        ),
    ],
)
def test_column_answers(arrays: dict[str, np.ndarray], text: str) -> None:
    assert answers.predictions(arrays, None, row_format=False) == text.encode(
        "utf-8", "surrogateescape"
    )


@pytest.mark.parametrize(
    ("arrays", "row_format", "text"),
    [
        ({}, True, "Cannot convert empty tensor map to JSON"),
        ({"y": np.float32(1)}, True, "Tensor name: y has no shape information "),
        (
            {"a": np.float32([1, 2]), "b": np.float32([1])},
            True,
            "Tensor name: b has inconsistent batch size: 1 expecting: 2",
        ),
        ({"y": np.float16([1])}, False, "Failed to write JSON value for tensor type: half"),
        ({"y": np.uint16([1])}, True, "Failed to write JSON value for tensor type: uint16"),
        ({"y": np.complex64([1])}, True, "Failed to write JSON value for tensor type: complex64"),
    ],
)
def test_what_json_cannot_hold_is_refused_in_tf_servings_words(
    arrays: dict[str, np.ndarray], row_format: bool, text: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        answers.predictions(arrays, None, row_format=row_format)
    assert caught.value.message == text


def test_an_error_body_is_four_blanks_in_and_escapes_what_it_must() -> None:
    assert answers.error_body('a "b"\n\udcff') == b'{\n    "error": "a \\"b\\"\\n\xff"\n}'


# What clients read.


@pytest.mark.parametrize("row_format", [True, False])
@pytest.mark.parametrize(
    "dtype", [d for d in dtypes.ALL if d.numpy.kind in "fiub" and d.numpy.itemsize != 2], ids=str
)
def test_an_answer_is_read_back_bit_for_bit(dtype: DType, row_format: bool) -> None:
    raw = np.random.default_rng(3).integers(0, 256, 6 * dtype.numpy.itemsize, np.uint8)
    array = (raw & 1 if dtype is dtypes.BOOL else raw).view(dtype.numpy).reshape(3, 2)
    for outputs in ({"y": array}, {"y": array, "z": array[:, :1]}):
        body = answers.predictions(outputs, None, row_format=row_format)
        found = answers.parse_predictions(body, signature(**dict.fromkeys(outputs, dtype)))
        assert found.keys() == outputs.keys()
        for name, expected in outputs.items():
            assert found[name].dtype == dtype.numpy
            np.testing.assert_array_equal(found[name], expected)


@pytest.mark.parametrize("row_format", [True, False])
def test_strings_and_bytes_are_read_back(row_format: bool) -> None:
    outputs = {"a_bytes": strings(b"\x80\x81", b""), "b": strings("h\u00e9".encode(), b"\xff")}
    body = answers.predictions(outputs, None, row_format=row_format)
    found = answers.parse_predictions(body, signature(a_bytes=dtypes.STRING, b=dtypes.STRING))
    assert {name: array.tolist() for name, array in found.items()} == {
        n: a.tolist() for n, a in outputs.items()
    }
    alone = answers.predictions(
        {"a_bytes": outputs["a_bytes"][0:1].reshape(())}, None, row_format=False
    )
    assert (
        answers.parse_predictions(alone, signature(a_bytes=dtypes.STRING))["a_bytes"].item()
        == b"\x80\x81"
    )


def test_an_empty_answer_is_an_empty_array() -> None:
    assert answers.parse_predictions(b'{"predictions": []}', signature(y=dtypes.FLOAT))[
        "y"
    ].shape == (0,)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "answer: not JSON at byte 0"),
        (b"[1]", "answer: a list of 1, expected an object"),
        (b"{}", "answer: neither 'predictions' nor 'outputs' is there"),
        (b'{"predictions": 1}', "predictions: the number 1, expected a list"),
        (b'{"predictions": ["a"]}', 'predictions[0]: the text "a", expected a number'),
        (b'{"predictions": [[1], [2, 3]]}', "predictions[1]: a list of 2, expected a list of 1"),
    ],
)
def test_an_answer_that_is_none_is_refused(body: bytes, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text.replace("[", r"\[")):
        answers.parse_predictions(body, signature(y=dtypes.FLOAT))
    with pytest.raises(InvalidArgument):
        answers.parse_predictions(body, signature(y=dtypes.FLOAT, z=dtypes.FLOAT))


def test_a_missing_output_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"predictions\[0\]\.z: missing"):
        answers.parse_predictions(
            b'{"predictions": [{"y": 1}]}', signature(y=dtypes.FLOAT, z=dtypes.FLOAT)
        )


# Status and metadata.


class State(Enum):
    AVAILABLE = 30
    END = 50


@dataclass
class Row:
    version: int
    state: State
    error_name: str = "OK"
    error_message: str = ""


def test_a_status_answer_is_laid_out_as_protobuf_does() -> None:
    rows = [Row(124, State.AVAILABLE), Row(123, State.END, "NOT_FOUND", 'no "x" <y>\n')]
    assert answers.status(rows).decode() == (
        '{\n "model_version_status": [\n'
        '  {\n   "version": "124",\n   "state": "AVAILABLE",\n'
        '   "status": {\n    "error_code": "OK",\n    "error_message": ""\n   }\n  },\n'
        '  {\n   "version": "123",\n   "state": "END",\n'
        '   "status": {\n    "error_code": "NOT_FOUND",\n'
        '    "error_message": "no \\"x\\" \\u003cy\\u003e\\n"\n   }\n  }\n'
        " ]\n}\n"
    )


def test_a_metadata_answer_is_put_together_as_tf_serving_does() -> None:
    signature_def = messages.parse_text(
        messages.SignatureDef,
        'inputs { key: "x" value { name: "x:0" dtype: DT_FLOAT tensor_shape { dim { size: -1 } } '
        "} }"
        'outputs { key: "y" value { name: "y:0" dtype: DT_FLOAT_REF tensor_shape { unknown_rank: '
        "true } } }"
        'method_name: "tensorflow/serving/predict"',
    )
    text = answers.metadata("m", 7, {"serving_default": signature_def}).decode()
    assert text.startswith(
        '{\n"model_spec":{\n "name": "m",\n "version": "7",\n "signature_name": ""\n}\n,\n'
        '"metadata": {"signature_def": {\n "signature_def": {\n  "serving_default": {\n   '
        '"inputs": {\n    "x": {\n'
        '     "name": "x:0",\n     "dtype": "DT_FLOAT",\n     "tensor_shape": {\n      "dim": [\n '
        "      {\n"
        '        "size": "-1",\n        "name": ""\n       }\n      ],\n'
        '      "unknown_rank": false\n     }\n    }\n   },\n'
    )
    assert text.endswith(
        '   "method_name": "tensorflow/serving/predict",\n   "defaults": {}\n  }\n }\n}\n}\n}\n'
    )
    output = json.loads(text)["metadata"]["signature_def"]["signature_def"]["serving_default"][
        "outputs"
    ]["y"]
    assert output == {
        "name": "y:0",
        "dtype": "DT_FLOAT_REF",
        "tensor_shape": {"dim": [], "unknown_rank": True},
    }


def test_a_default_value_is_shown_in_the_metadata() -> None:
    signature_def = messages.SignatureDef()
    signature_def.defaults["x"].float_val.append(1.5)
    shown = json.loads(answers.metadata("m", 1, {"s": signature_def}))["metadata"]["signature_def"][
        "signature_def"
    ]["s"]
    assert shown["defaults"]["x"]["float_val"] == [1.5]
