"""What a file in the zoo fills in: its data, how it is trained and judged, and its signatures.

Nothing here knows TensorFlow: what a model is stays in its zoo file, and is Any to everyone else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trainer.data.archive import Archive
from trainer.data.rows import Arrays, LoadRequest, Split
from trainer.runs.run import Hyper, Run
from trainer.runs.score import Confusion, Score

__all__ = [
    "Arrays",
    "Budget",
    "Confusion",
    "Entry",
    "Hyper",
    "LoadRequest",
    "Metric",
    "Run",
    "Score",
    "SignatureSpec",
    "Split",
]


@dataclass(frozen=True, slots=True)
class SignatureSpec:
    """One signature as callers see it: alias -> "float [-1,2]", in TensorFlow Serving's dtypes.

    classify and regress take serialized tf.Examples as ``inputs``, and give ``classes`` and
    ``scores``, or ``outputs``.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    # What it can be called for besides Predict.
    method: Literal["predict", "classify", "regress"] = "predict"


@dataclass(frozen=True, slots=True)
class Metric:
    """What a full training is held to."""

    name: str
    # The value to reach.
    bar: float
    better: Literal["higher", "lower"]
    # In words, what the baseline does.
    baseline: str
    # How much better than the baseline it must be, as a share of that.
    margin: float = 0.0
    # How much worse than the live version a new one may be and still enter the store.
    max_regression: float = 0.0
    # What the baseline scores where ``judge`` does not measure that, as for ``Entry.also``.
    guess: float = 0.0

    def reached(self, score: Score) -> bool:
        if self.better == "higher":
            return score.value >= max(self.bar, score.baseline * (1 + self.margin))
        return score.value <= min(self.bar, score.baseline * (1 - self.margin))

    @property
    def requirement(self) -> str:
        """In words, what is to be reached."""
        sign = ">=" if self.better == "higher" else "<="
        text = f"{sign} {self.bar:g}"
        if self.margin:
            text += f" and {self.margin:.0%} better than {self.baseline}"
        return text


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits: total size, and best-of-seven latency of the slowest signature."""

    max_bytes: int = 100_000_000
    latency_ms: float = 250.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the zoo."""

    name: str
    summary: str
    # The archives it needs.
    data: tuple[Archive, ...]
    metric: Metric
    # What a full training reaches, as seen: the median of three seeds.
    typical: float
    full: Hyper
    quick: Hyper
    signatures: Mapping[str, SignatureSpec]

    load: Callable[[LoadRequest], Split]
    train: Callable[[Split, Run], Any]
    # Wraps what ``train`` returned in a tf.Module with one tf.function for each signature, of that
    # name. That module is judged and exported.
    serve: Callable[[Any], Any]
    judge: Callable[[Any, Split], Score]
    # Gives each signature inputs to be called with, which are recorded as golden requests.
    examples: Callable[[Split], Mapping[str, Arrays]]

    # Of the golden answers, absolute and relative: the engine that serves may fuse operations that
    # the one that trains does not.
    tolerance: float = 1e-5
    budget: Budget = Budget()
    # Archives that a full training uses instead of ``data`` wherever they can be fetched.
    full_data: tuple[Archive, ...] = ()
    # Further metrics.
    also: tuple[Metric, ...] = ()
    # A full training is repeated so many times, with another part of the rows held out. The score
    # is the mean, and the first of these models is published.
    folds: int = 1
