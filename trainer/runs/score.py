"""How good a trained model is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Confusion:
    """``counts[i][j]``: how many held-out rows of label i were predicted as label j."""

    labels: tuple[str, ...]
    counts: np.ndarray


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's value on the held-out rows."""

    value: float
    # What ``Metric.baseline`` scores on the same rows.
    baseline: float
    # The values of further metrics, by name.
    also: Mapping[str, float] = field(default_factory=dict)
    confusion: Confusion | None = None
