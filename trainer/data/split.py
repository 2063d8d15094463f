"""Which rows are held out: decided by what is in a row, never by its place or by chance.

So equal rows fall on the same side and are counted once, and a seed varies the training but not the
judgement.
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

    ``fold`` holds out another part of the same size; ``validation_percent`` is of what is left to
    learn from.
    """
    lowest = fold * held_out_percent
    seen: set[bytes] = set()
    sides: dict[str, list[int]] = {"train": [], "validation": [], "held_out": []}
    for row in range(len(next(iter(columns.values())))):
        digest = _digest([columns[name][row] for name in by or columns])
        if digest in seen:
            continue
        seen.add(digest)
        if lowest <= int.from_bytes(digest[:8], "big") % 100 < lowest + held_out_percent:
            sides["held_out"].append(row)
        elif int.from_bytes(digest[8:16], "big") % 100 < validation_percent:
            sides["validation"].append(row)
        else:
            sides["train"].append(row)
    parts = {
        side: {name: column[rows] for name, column in columns.items()}
        for side, rows in sides.items()
    }
    return Split(train=parts["train"], held_out=parts["held_out"], validation=parts["validation"])


def order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The shuffled order of an epoch, of seed and epoch alone: a training that is taken up again
    sees the same."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def _digest(cells: list[Any]) -> bytes:
    total = hashlib.sha256()
    for cell in cells:
        if isinstance(cell, str):
            cell = cell.encode()
        content = cell if isinstance(cell, bytes) else np.asarray(cell).tobytes()
        # The length keeps ("ab", "c") from ("a", "bc").
        total.update(len(content).to_bytes(8, "big") + content)
    return total.digest()
