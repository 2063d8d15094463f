"""tf.Example, as classify and regress take it: named features of one row, serialized without
TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headrace.protocol import messages


def serialized(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """One Example for each row of ``columns``."""
    rows = len(next(iter(columns.values())))
    made = [
        _example({name: column[row] for name, column in columns.items()}) for row in range(rows)
    ]
    return np.array(made, dtype=object)


def _example(row: Mapping[str, object]) -> bytes:
    example = messages.Example()
    for name, value in row.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes | str):
            feature.bytes_list.value.append(value if isinstance(value, bytes) else value.encode())
        elif np.issubdtype(np.asarray(value).dtype, np.integer):
            feature.int64_list.value.append(int(np.asarray(value)))
        else:
            feature.float_list.value.append(float(np.asarray(value)))
    return bytes(example.SerializeToString(deterministic=True))
