"""What a file in the zoo fills in: its data, how it is trained and judged, and the signatures it
promises.

Nothing here knows TensorFlow: what a model is stays with its zoo file, and is Any to everyone else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trainer.data.archive import Archive
from trainer.data.rows import Arrays, Split, Want
from trainer.runs.run import Hyper, Run
from trainer.runs.score import Confusion, Score

__all__ = [
    "Arrays",
    "Budget",
    "Confusion",
    "Entry",
    "Hyper",
    "Metric",
    "Promise",
    "Run",
    "Score",
    "Split",
    "Want",
]


@dataclass(frozen=True, slots=True)
class Promise:
    """One signature as callers see it: alias -> "float [-1,2]", in TensorFlow Serving's dtype
    words.

    ``method`` is what it may be asked for beside Predict; classify and regress take serialized
    tf.Examples as ``inputs`` and give ``classes`` and ``scores``, or ``outputs``.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    method: Literal["predict", "classify", "regress"] = "predict"


@dataclass(frozen=True, slots=True)
class Metric:
    """What a full training is held to: ``bar`` at least, and ``margin`` (a share of the baseline)
    better than it.

    ``guess`` is what the baseline scores where ``judge`` does not measure that, as for
    ``Entry.also``. ``may_lose`` is how much worse than the live version's figure a new version may
    be and still enter the store.
    """

    name: str
    bar: float
    better: Literal["higher", "lower"]
    baseline: str
    margin: float = 0.0
    may_lose: float = 0.0
    guess: float = 0.0

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
class Budget:
    """What a version may cost: its files together; of its slowest signature's example the quickest
    of a few calls."""

    max_bytes: int = 100_000_000
    latency_ms: float = 250.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the zoo.

    ``data`` is needed; ``better`` is taken instead by a full training wherever it is to be had.
    ``serve`` wraps what ``train`` returned in a tf.Module with one tf.function for each promised
    signature, of that name; that module is what is judged and exported. ``examples`` gives each
    signature inputs to be called with, recorded as golden requests. ``typical`` is what a full
    training was seen to reach (median of three seeds). ``tolerance`` is that of the golden answers,
    absolute and relative: the engine that serves may fuse operations that the one that trains does
    not. With ``folds`` a full training is repeated with another part held out, its score is the
    mean, and the first of these models is the one that is served. ``also`` are further bars.
    """

    name: str
    summary: str
    data: tuple[Archive, ...]
    metric: Metric
    typical: float
    full: Hyper
    quick: Hyper
    signatures: Mapping[str, Promise]
    load: Callable[[Want], Split]
    train: Callable[[Split, Run], Any]
    serve: Callable[[Any], Any]
    judge: Callable[[Any, Split], Score]
    examples: Callable[[Split], Mapping[str, Arrays]]
    tolerance: float = 1e-5
    budget: Budget = Budget()
    better: tuple[Archive, ...] = ()
    also: tuple[Metric, ...] = ()
    folds: int = 1
