"""Serializes rows as tf.Examples, which classify and regress take, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.protocol import messages


def serialized(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """One Example for each row of ``columns``."""
    first_column = next(iter(columns.values()))
    examples = []
    for index in range(len(first_column)):
        row = {name: column[index] for name, column in columns.items()}
        examples.append(_example(row))
    return np.array(examples, dtype=object)


def _example(row: Mapping[str, object]) -> bytes:
    example = messages.Example()
    for name, value in row.items():
        _set(example.features.feature[name], value)
    return bytes(example.SerializeToString(deterministic=True))


def _set(feature: Any, value: object) -> None:
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        feature.bytes_list.value.append(value)
        return

    number = np.asarray(value)
    is_integer = np.issubdtype(number.dtype, np.integer)
    if is_integer:
        feature.int64_list.value.append(int(number))
    else:
        feature.float_list.value.append(float(number))
