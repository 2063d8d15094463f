"""One model from its data to its version: load, train, judge, export, publish."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

from trainer import card, export, golden, runtime, warmup
from trainer.card import Card
from trainer.entry import Entry, Hyper, Run
from trainer.errors import Refused
from trainer.progress import Progress
from trainer.publish import Published, Tell, publish
from trainer.settings import Settings


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for at the prompt; None leaves it to the zoo file."""

    quick: bool = False
    seed: int = 0
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None

    def hyper(self, entry: Entry) -> Hyper:
        start = entry.quick if self.quick else entry.full
        return Hyper(
            epochs=self.epochs or start.epochs,
            batch_size=self.batch_size or start.batch_size,
            learning_rate=self.learning_rate or start.learning_rate,
        )

    def settings_are(self, entry: Entry) -> str:
        """For the card: full, quick or chosen at the prompt."""
        if self.hyper(entry) == entry.full:
            return "full"
        return "quick" if self.quick else "chosen"


def train(entry: Entry, settings: Settings, wish: Wish, *, tell: Tell) -> Published:
    # The data first: where it is not to be had, nobody should have waited for TensorFlow.
    data = entry.load(settings.archives)
    runtime.prepare(wish.seed)
    hyper = wish.hyper(entry)
    cpu, wall = time.process_time(), time.monotonic()
    model = entry.train(data, Run(hyper, wish.seed, Progress(entry.name, epochs=hyper.epochs)))
    cpu_s, wall_s = time.process_time() - cpu, time.monotonic() - wall
    served = entry.serve(model)
    score = entry.judge(served, data)
    if not math.isfinite(score.value):
        raise Refused(
            f"{entry.name} was not published: its {entry.metric.name} is {score.value}; the training diverged"
        )

    def fill(folder: Path) -> Card:
        export.save(served, entry, folder)
        examples = entry.examples(data)
        golden.write(golden.record(served, examples), folder)
        warmup.write(entry.name, examples, folder)
        return card.of_training(
            entry,
            data,
            score,
            hyper=hyper,
            seed=wish.seed,
            settings_are=wish.settings_are(entry),
            cpu_s=cpu_s,
            wall_s=wall_s,
        )

    return publish(entry.name, settings, fill, tell=tell)
