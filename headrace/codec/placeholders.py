"""Inputs made up from a signature alone, where nobody has recorded real ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from headrace.protocol.dtypes import DType
from headrace.protocol.signatures import Shape, Signature, TensorSpec

TEXT = b"example"


def inputs(
    signature: Signature, *, max_elements: float = math.inf
) -> Mapping[str, np.ndarray] | None:
    """One row for each input without a default; None where an input would be larger than this.

    Inputs of a dtype that we do not carry are left out.
    """
    arrays = {}
    for alias, spec in signature.inputs.items():
        if spec.dtype is None or alias in signature.defaults:
            continue
        shape = smallest_shape(spec)
        # Not by numpy, whose integers overflow.
        if math.prod(shape) > max_elements:
            return None
        arrays[alias] = array(spec.dtype, shape)
    return arrays


def smallest_shape(spec: TensorSpec) -> Shape:
    """The shape with 1 for every free dimension; an unknown rank becomes a list of one."""
    if spec.shape is None:
        return (1,)
    return tuple(1 if size < 0 else size for size in spec.shape)


def array(dtype: DType, shape: Shape) -> np.ndarray:
    """Ones, true, or a word: valid as numbers, as indexes and as lengths."""
    return np.full(shape, TEXT if dtype.is_string else 1, dtype.numpy)
