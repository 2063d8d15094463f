"""A disk that takes no more, as Python and TensorFlow tell of it."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_FULL = {number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}
# Bytes that are free where nothing could be written.
_LITTLE = 1 << 20
# As TensorFlow's file errors begin.
_PATH = re.compile(r"(?:\{\{.*?\}\} )?(/[^;\n]+); ")


def full(error: BaseException, *places: Path) -> str:
    """What could not be written and why, in words; "" where that is not what happened.

    Who fails to write need not say where: ``places`` are all it could have been.
    """
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in _FULL:
            return f"no room to write {each.filename or _likely(places)}: {_FULL[each.errno]}"
        if type(each).__module__.startswith("tensorflow."):
            for reason in _FULL.values():
                if reason in str(each):
                    path = _PATH.match(str(each))
                    return f"no room to write {path[1] if path else _likely(places)}: {reason}"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """What an error came of, too: a file that is closed over a failed write may fail in other
    words."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _likely(places: tuple[Path, ...]) -> str:
    there = [place for place in places if place.exists()]
    little = [place for place in there if shutil.disk_usage(place).free < _LITTLE]
    return "in " + " or ".join(str(place.resolve()) for place in little or there or places)
