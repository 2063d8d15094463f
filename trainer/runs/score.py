"""How good a trained model is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Confusion:
    """``counts[i][j]``: how many held-out rows of label i were taken for label j."""

    labels: tuple[str, ...]
    counts: np.ndarray


@dataclass(frozen=True, slots=True)
class Score:
    """A metric on the held-out rows, and what ``Metric.baseline`` scores on the same rows;
    ``also``: further ones."""

    value: float
    baseline: float
    also: Mapping[str, float] = field(default_factory=dict)
    confusion: Confusion | None = None
