"""Numbers on the command line, checked by argparse."""

from __future__ import annotations

import argparse


def at_least_0(text: str) -> int:
    return _number(text, minimum=0)


def at_least_1(text: str) -> int:
    return _number(text, minimum=1)


def _number(text: str, *, minimum: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() else -1
    # Seeds and counts are int32 in TensorFlow.
    if not minimum <= number < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {minimum}")
    return number


def above_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value
