"""The rows of a data set, and which of them a training gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainer.data.archive import Archive

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What ``load`` of a zoo file gets."""

    # The folder of the fetched archives.
    cache: Path
    # A quick training needs less data than there is.
    quick: bool = False
    # Which part of the rows is held out.
    fold: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to learn from and rows to be judged by; no row occurs twice."""

    train: Arrays
    held_out: Arrays
    # Looked at while training: for early stopping, and for the curves.
    validation: Arrays = field(default_factory=dict)
    # The archives that were really read.
    data: tuple[Archive, ...] = ()
    # What a model that learnt from these is held to, if not to the metric's own bar.
    bar: float | None = None
