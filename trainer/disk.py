"""Recognizes a full disk in the errors of Python and TensorFlow."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_FULL = {number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}
# A disk with fewer free bytes counts as full.
_ALMOST_NONE = 1 << 20
# TensorFlow's file errors begin like this.
_PATH = re.compile(r"(?:\{\{.*?\}\} )?(/[^;\n]+); ")


def full(error: BaseException, *places: Path) -> str | None:
    """What could not be written and why; None when the error is another one.

    An error need not say which file it was: ``places`` are all that it could have been.
    """
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in _FULL:
            return f"no room to write {each.filename or _likely(places)}: {_FULL[each.errno]}"
        if not type(each).__module__.startswith("tensorflow."):
            continue
        for reason in _FULL.values():
            if reason in str(each):
                path = _PATH.match(str(each))
                return f"no room to write {path[1] if path else _likely(places)}: {reason}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes: closing a file after a failed write may fail with another error."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _likely(places: tuple[Path, ...]) -> str:
    existing = [place for place in places if place.exists()]
    full_ones = [place for place in existing if shutil.disk_usage(place).free < _ALMOST_NONE]
    likely = full_ones or existing or places
    return "in " + " or ".join(str(place.resolve()) for place in likely)
