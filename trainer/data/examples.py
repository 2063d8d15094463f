"""Serializes rows as tf.Examples, which classify and regress take, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headrace.protocol import messages


def serialized(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """One Example for each row of ``columns``."""
    examples = []
    for row in range(len(next(iter(columns.values())))):
        examples.append(_example({name: column[row] for name, column in columns.items()}))
    return np.array(examples, dtype=object)


def _example(row: Mapping[str, object]) -> bytes:
    example = messages.Example()
    for name, value in row.items():
        feature = example.features.feature[name]
        if isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        elif isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            number = np.asarray(value)
            if np.issubdtype(number.dtype, np.integer):
                feature.int64_list.value.append(int(number))
            else:
                feature.float_list.value.append(float(number))
    return bytes(example.SerializeToString(deterministic=True))
