"""Rows of a data set, and which of them a training is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainer.data.archive import Archive

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Want:
    """What ``load`` is asked for: the data that a quick training needs or all there is, with which
    fifth held out."""

    cache: Path
    quick: bool = False
    fold: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to learn from and rows to be judged by; no row is in both, none is in either twice.

    ``validation`` rows are watched while training (when to stop, the curves); ``data`` is what was
    really read, and ``bar`` what is wanted of a model that learnt from it, where that is not the
    metric's own bar.
    """

    train: Arrays
    held_out: Arrays
    validation: Arrays = field(default_factory=dict)
    data: tuple[Archive, ...] = ()
    bar: float | None = None
