"""The digits of a double as RapidJSON 1.1 finds them, by Grisu2: they read back, but are not always
the nearest.

Only error texts quote numbers this way. The arithmetic is that of 64-bit integers.
"""

from __future__ import annotations

import struct
from functools import cache

# The leading bit of a normal double's fraction, which is not stored.
_HIDDEN = 1 << 52
_MASK = (1 << 64) - 1
# RapidJSON's table of powers of ten: every eighth, from this one on.
_FIRST_POWER = -348
_STEP = 8


def digits(value: float) -> tuple[str, int]:
    """For a positive finite double: decimal digits and the power of ten they are multiplied by."""
    f, e = _parts(value)
    # Half way to the doubles above and below.
    upper, upper_e = _normal((f << 1) + 1, e - 1)
    if f == _HIDDEN:
        lower = (f << 2) - 1
        lower_e = e - 2
    else:
        lower = (f << 1) - 1
        lower_e = e - 1
    # Of the same exponent as the upper one.
    lower <<= lower_e - upper_e

    power, power_e, exponent = _power_for(upper_e)
    high = _product(upper, power) - 1
    low = _product(lower, power) + 1
    normal_f, _ = _normal(f, e)
    wanted = _product(normal_f, power)
    return _generate(
        high,
        to_wanted=high - wanted,
        delta=high - low,
        shift=-(upper_e + power_e + 64),
        exponent=exponent,
    )


def _parts(value: float) -> tuple[int, int]:
    """The whole number and the power of two whose product is the value."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    fraction = bits & (_HIDDEN - 1)
    biased_exponent = bits >> 52
    if biased_exponent == 0:
        return fraction, -1074
    return fraction + _HIDDEN, biased_exponent - 1075


def _generate(high: int, to_wanted: int, delta: int, shift: int, exponent: int) -> tuple[str, int]:
    """Digits of ``high``, a fixed-point number of ``shift`` fraction bits, as many as stay within
    ``delta``."""
    one = 1 << shift
    whole = high >> shift
    rest = high & (one - 1)
    out: list[int] = []
    for kappa in reversed(range(len(str(whole)))):
        unit = 10**kappa
        digit, whole = divmod(whole, unit)
        if digit or out:
            out.append(digit)
        left = (whole << shift) + rest
        if left <= delta:
            text = _rounded(out, delta, left, unit << shift, to_wanted)
            return text, exponent + kappa

    kappa = 0
    while True:
        kappa += 1
        rest *= 10
        delta *= 10
        digit = rest >> shift
        rest &= one - 1
        if digit or out:
            out.append(digit)
        if rest < delta:
            # RapidJSON 1.1 knows powers of ten up to this one only, and leaves the last digit as it
            # is beyond.
            scaled = 0
            if kappa < 9:
                scaled = to_wanted * 10**kappa & _MASK
            text = _rounded(out, delta, rest, one, scaled)
            return text, exponent - kappa


def _rounded(out: list[int], delta: int, rest: int, unit: int, wanted: int) -> str:
    """Steps the last digit down towards the wanted number."""
    while rest < wanted and delta - rest >= unit:
        next_rest = rest + unit
        is_nearer = next_rest < wanted or wanted - rest > next_rest - wanted
        if not is_nearer:
            break
        out[-1] -= 1
        rest = next_rest
    return "".join(map(str, out))


def _normal(f: int, e: int) -> tuple[int, int]:
    """The same number with all of 64 bits used."""
    shift = 64 - f.bit_length()
    return f << shift, e - shift


def _product(a: int, b: int) -> int:
    """The upper 64 bits of the product, rounded."""
    product = a * b
    return (product + (1 << 63)) >> 64


def _power_for(e: int) -> tuple[int, int, int]:
    """A power of ten, as 64 bits and an exponent of two, that brings a number of exponent e near
    2**-60."""
    scaled = (-61 - e) * 0.30102999566398114 + 347
    k = int(scaled)
    if scaled > k:
        k += 1
    index = (k >> 3) + 1
    ten = _FIRST_POWER + index * _STEP
    power, power_e = _power(ten)
    return power, power_e, -ten


@cache
def _power(ten: int) -> tuple[int, int]:
    """10**ten rounded to 64 bits, and the exponent of two that goes with it."""
    if ten >= 0:
        numerator = 10**ten
        denominator = 1
        shift = numerator.bit_length() - 64
        if shift >= 0:
            denominator <<= shift
        else:
            numerator <<= -shift
    else:
        denominator = 10**-ten
        shift = -denominator.bit_length() - 63
        numerator = 1 << -shift
        if numerator // denominator >> 64:
            shift += 1
            numerator >>= 1
    rounded = (2 * numerator + denominator) // (2 * denominator)
    return rounded, shift
