"""Inputs made up from a signature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.codec import placeholders
from headrace.protocol import dtypes, signatures
from headrace.protocol.signatures import Signature, TensorSpec


def signature(*specs: TensorSpec, **more: Any) -> Signature:
    return Signature("serving_default", {spec.alias: spec for spec in specs}, {}, **more)


SPECS = [
    TensorSpec("x", "x:0", dtypes.FLOAT, (-1, 2)),
    TensorSpec("flag", "flag:0", dtypes.BOOL, (-1,)),
    TensorSpec("text", "text:0", dtypes.STRING, None),
    TensorSpec("scalar", "scalar:0", dtypes.INT64, ()),
]


def test_free_dimensions_and_unknown_ranks_become_one() -> None:
    arrays = placeholders.inputs(signature(*SPECS))
    assert arrays is not None
    assert {alias: array.tolist() for alias, array in arrays.items()} == {
        "x": [[1.0, 1.0]],
        "flag": [True],
        "text": [b"example"],
        "scalar": 1,
    }


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.alias)
def test_placeholders_pass_the_check(spec: TensorSpec) -> None:
    arrays = placeholders.inputs(signature(spec))
    assert arrays is not None
    shapes = {alias: (dtypes.by_numpy(array.dtype), array.shape) for alias, array in arrays.items()}
    signatures.check(signature(spec), shapes)


def test_inputs_with_a_default_are_left_out() -> None:
    assert placeholders.inputs(signature(*SPECS[:1], defaults={"x": np.float32(1)})) == {}


def test_no_placeholders_where_one_would_be_too_large() -> None:
    large = TensorSpec("x", "x:0", dtypes.FLOAT, (-1, 1 << 40, 1 << 40))
    assert placeholders.inputs(signature(large), max_elements=100) is None
