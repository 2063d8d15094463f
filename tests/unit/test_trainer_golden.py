"""Golden values as JSON, and how an answer differs from them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from headrace.protocol import dtypes
from trainer.exports import golden


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([0.1, np.float32(1e-38), 3], np.float32), dtypes.FLOAT),
        (np.array([[b"\xff\x00", b""]], object), dtypes.STRING),
        (np.array(7, np.int64), dtypes.INT64),
        (np.array([True, False]), dtypes.BOOL),
    ],
    ids=["float", "string", "scalar", "bool"],
)
def test_golden_values_come_back_bit_for_bit(array: np.ndarray, dtype: dtypes.DType) -> None:
    back = golden.to_array(json.loads(json.dumps(golden.to_json(array))), dtype)
    assert back.shape == array.shape
    assert back.dtype == array.dtype
    assert (back == array).all()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (np.float32([1, 2.0000001]), None),
        (np.float32([1, 2.1]), "off by 0.1"),
        (np.float32([[1, 2]]), "shape [1, 2], recorded [2]"),
        (np.float32([1, np.nan]), "off by nan"),
    ],
    ids=["close", "far", "another shape", "nan"],
)
def test_a_difference_is_said_in_words(answer: np.ndarray, said: str | None) -> None:
    found = golden.difference(answer, np.float32([1, 2]), tolerance=1e-5)
    assert found == said or (said and found and found.startswith(said))
