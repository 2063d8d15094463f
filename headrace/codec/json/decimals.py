"""Floating-point numbers as TensorFlow Serving writes them in JSON.

Six significant digits, as %g gives them, where these read back to the same number; otherwise nine,
or seventeen for doubles. A whole number without exponent gets a ".0".
"""

from __future__ import annotations

import numpy as np

_NON_FINITE = {"nan": b"NaN", "-nan": b"NaN", "inf": b"Infinity", "-inf": b"-Infinity"}


def decimals(values: np.ndarray) -> list[bytes]:
    """The texts of a flat array of float32 or float64."""
    is_float = values.dtype.itemsize == 4
    numbers: list[float] = values.tolist()
    if not numbers:
        return []
    texts = ("%.6g " * len(numbers) % tuple(numbers)).split()
    back: list[float] = list(map(float, texts))
    if is_float:
        # Six digits of the largest float are less than it.
        back = np.array(back, np.float32).tolist()
    long = "%.9g" if is_float else "%.17g"
    texts = [
        text if number == again else long % number
        for number, text, again in zip(numbers, texts, back, strict=True)
    ]
    joined = " ".join(texts)
    # No text has two.
    if joined.count(".") == len(texts):
        return joined.encode().split()
    out = []
    for text in texts:
        if "." in text or "e" in text:
            out.append(text.encode())
        else:
            out.append(_NON_FINITE.get(text) or b"%b.0" % text.encode())
    return out
