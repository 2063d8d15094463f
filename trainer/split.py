"""Which rows are held out: decided by what is in a row, never by its place or by chance.

So equal rows fall on the same side and are counted once, and a seed varies the training but not the judgement.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from trainer.entry import Arrays, Split


def by_content(columns: Arrays, *, held_out_percent: int = 20) -> Split:
    """Deduplicated rows, split by a hash over all columns."""
    first = next(iter(columns.values()))
    seen: set[bytes] = set()
    train: list[int] = []
    held_out: list[int] = []
    for row in range(len(first)):
        digest = _digest([column[row] for column in columns.values()])
        if digest in seen:
            continue
        seen.add(digest)
        side = held_out if int.from_bytes(digest[:8], "big") % 100 < held_out_percent else train
        side.append(row)
    return Split(
        train={name: column[train] for name, column in columns.items()},
        held_out={name: column[held_out] for name, column in columns.items()},
    )


def order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The shuffled order of an epoch, of seed and epoch alone: a training that is taken up again sees the same."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def _digest(cells: list[Any]) -> bytes:
    total = hashlib.sha256()
    for cell in cells:
        if isinstance(cell, str):
            cell = cell.encode()
        content = cell if isinstance(cell, bytes) else np.asarray(cell).tobytes()
        total.update(len(content).to_bytes(8, "big") + content)  # the length keeps ("ab", "c") from ("a", "bc")
    return total.digest()
