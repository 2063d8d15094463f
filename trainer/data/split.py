"""Which rows are held out: decided by a row's content, never by its position or by chance.

So equal rows fall on the same side and count once, and a seed changes the training but not the
rows it is judged by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.data.rows import Arrays, Split


def by_content(
    columns: Arrays,
    *,
    held_out_percent: int = 20,
    validation_percent: int = 0,
    fold: int = 0,
    by: Sequence[str] = (),
) -> Split:
    """Deduplicated rows, split by a hash over the columns ``by`` (all when none is named).

    Each ``fold`` holds out another part of the same size. ``validation_percent`` is a share of the
    rows that are not held out.
    """
    digests: set[bytes] = set()
    train: list[int] = []
    validation: list[int] = []
    held_out: list[int] = []
    first = fold * held_out_percent
    hashed_columns = [columns[name] for name in by or columns]
    for row in range(len(hashed_columns[0])):
        digest = _digest([column[row] for column in hashed_columns])
        if digest in digests:
            continue
        digests.add(digest)
        if first <= _percent(digest[:8]) < first + held_out_percent:
            held_out.append(row)
        elif _percent(digest[8:16]) < validation_percent:
            validation.append(row)
        else:
            train.append(row)
    return Split(
        train=_rows(columns, train),
        held_out=_rows(columns, held_out),
        validation=_rows(columns, validation),
    )


def order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The shuffled order of an epoch, from seed and epoch alone; a resumed training repeats it."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def _rows(columns: Arrays, numbers: list[int]) -> Arrays:
    return {name: column[numbers] for name, column in columns.items()}


def _percent(digest: bytes) -> int:
    """0 to 99, equally likely."""
    return int.from_bytes(digest, "big") % 100


def _digest(cells: list[Any]) -> bytes:
    total = hashlib.sha256()
    for cell in cells:
        if isinstance(cell, str):
            cell = cell.encode()
        elif not isinstance(cell, bytes):
            cell = np.asarray(cell).tobytes()
        # The length tells ("ab", "c") from ("a", "bc").
        total.update(len(cell).to_bytes(8, "big"))
        total.update(cell)
    return total.digest()
