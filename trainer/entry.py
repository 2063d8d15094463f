"""What a file in the zoo fills in: its data, how it is trained and judged, and the signatures it promises.

Nothing here knows TensorFlow: what a model is stays with its zoo file, and is Any to everyone else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trainer.archive import Archive
from trainer.progress import Progress

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to learn from and rows to be judged by; no row is in both, none is in either twice."""

    train: Arrays
    held_out: Arrays


@dataclass(frozen=True, slots=True)
class Hyper:
    epochs: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Run:
    """One training: how long, how fast, from which seed, and where to tell of it."""

    hyper: Hyper
    seed: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class Promise:
    """One signature as callers see it: alias -> "float [-1,2]", in TensorFlow Serving's dtype words."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Score:
    """A metric on the held-out rows, and what ``Metric.baseline`` scores on the same rows."""

    value: float
    baseline: float


@dataclass(frozen=True, slots=True)
class Metric:
    """What a full training is held to: ``bar`` at least, and ``margin`` (a share of the baseline) better than it."""

    name: str
    bar: float
    better: Literal["higher", "lower"]
    baseline: str
    margin: float = 0.0

    def reached(self, score: Score) -> bool:
        if self.better == "higher":
            return score.value >= max(self.bar, score.baseline * (1 + self.margin))
        return score.value <= min(self.bar, score.baseline * (1 - self.margin))

    @property
    def wanted(self) -> str:
        sign = ">=" if self.better == "higher" else "<="
        margin = f" and {self.margin:.0%} better than {self.baseline}" if self.margin else ""
        return f"{sign} {self.bar:g}{margin}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the zoo.

    ``serve`` wraps what ``train`` returned in a tf.Module with one tf.function for each promised signature, of that
    name; that module is what is judged and exported. ``examples`` gives each signature inputs to be called with,
    recorded as golden requests. ``typical`` is what a full training was seen to reach (median of three seeds).
    ``tolerance`` is that of the golden answers, absolute and relative: the engine that serves may fuse operations
    that the one that trains does not.
    """

    name: str
    summary: str
    data: tuple[Archive, ...]
    metric: Metric
    typical: float
    full: Hyper
    quick: Hyper
    signatures: Mapping[str, Promise]
    load: Callable[[Path], Split]
    train: Callable[[Split, Run], Any]
    serve: Callable[[Any], Any]
    judge: Callable[[Any, Split], Score]
    examples: Callable[[Split], Mapping[str, Arrays]]
    tolerance: float = 1e-5
