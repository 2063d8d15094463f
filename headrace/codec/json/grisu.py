"""The digits of a double as RapidJSON 1.1 finds them, by Grisu2: they read back, but are not always
the nearest.

Only error texts quote numbers this way. The arithmetic is that of 64-bit integers.
"""

from __future__ import annotations

import struct
from functools import cache

_HIDDEN = 1 << 52
_MASK = (1 << 64) - 1
_FIRST_POWER, _STEP = -348, 8


def digits(value: float) -> tuple[str, int]:
    """For a positive finite double: decimal digits and the power of ten they are multiplied by."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    fraction, biased = bits & (_HIDDEN - 1), bits >> 52
    f, e = (fraction + _HIDDEN, biased - 1075) if biased else (fraction, -1074)
    upper, upper_e = _normal((f << 1) + 1, e - 1)
    lower, lower_e = ((f << 2) - 1, e - 2) if f == _HIDDEN else ((f << 1) - 1, e - 1)
    lower <<= lower_e - upper_e
    power, power_e, exponent = _power_for(upper_e)
    high = _product(upper, power) - 1
    low = _product(lower, power) + 1
    wanted = _product(_normal(f, e)[0], power)
    return _generate(high, high - wanted, high - low, -(upper_e + power_e + 64), exponent)


def _generate(high: int, to_wanted: int, delta: int, shift: int, exponent: int) -> tuple[str, int]:
    """Digits of ``high``, a fixed-point number of ``shift`` fraction bits, as many as stay within
    ``delta``."""
    whole, rest = high >> shift, high & ((1 << shift) - 1)
    out: list[int] = []
    for kappa in range(len(str(whole)) - 1, -1, -1):
        digit, whole = divmod(whole, 10**kappa)
        if digit or out:
            out.append(digit)
        left = (whole << shift) + rest
        if left <= delta:
            return _rounded(out, delta, left, 10**kappa << shift, to_wanted), exponent + kappa
    kappa = 0
    while True:
        rest, delta, kappa = rest * 10, delta * 10, kappa + 1
        digit, rest = rest >> shift, rest & ((1 << shift) - 1)
        if digit or out:
            out.append(digit)
        if rest < delta:
            # RapidJSON 1.1 knows powers of ten up to this one only, and leaves the last digit as it
            # is beyond.
            scaled = to_wanted * 10**kappa & _MASK if kappa < 9 else 0
            return _rounded(out, delta, rest, 1 << shift, scaled), exponent - kappa


def _rounded(out: list[int], delta: int, rest: int, unit: int, wanted: int) -> str:
    """Steps the last digit down towards the wanted number."""
    while (
        rest < wanted
        and delta - rest >= unit
        and (rest + unit < wanted or wanted - rest > rest + unit - wanted)
    ):
        out[-1] -= 1
        rest += unit
    return "".join(map(str, out))


def _normal(f: int, e: int) -> tuple[int, int]:
    shift = 64 - f.bit_length()
    return f << shift, e - shift


def _product(a: int, b: int) -> int:
    return (a * b + (1 << 63)) >> 64


def _power_for(e: int) -> tuple[int, int, int]:
    """A power of ten, as 64 bits and an exponent of two, that brings a number of exponent e near
    2**-60."""
    scaled = (-61 - e) * 0.30102999566398114 + 347
    k = int(scaled) + (scaled > int(scaled))
    ten = _FIRST_POWER + ((k >> 3) + 1) * _STEP
    return *_power(ten), -ten


@cache
def _power(ten: int) -> tuple[int, int]:
    """10**ten rounded to 64 bits, and the exponent of two that goes with it."""
    if ten >= 0:
        shift = (10**ten).bit_length() - 64
        numerator, denominator = (10**ten, 1 << shift) if shift >= 0 else (10**ten << -shift, 1)
    else:
        shift = -(10**-ten).bit_length() - 63
        numerator, denominator = 1 << -shift, 10**-ten
        if numerator // denominator >> 64:
            shift, numerator = shift + 1, numerator >> 1
    return (2 * numerator + denominator) // (2 * denominator), shift
