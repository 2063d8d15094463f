"""One model from its data to its version: load, train, judge, export, publish."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.entry import Entry, Hyper, Run, Score, Split, Want
from trainer.errors import Refused
from trainer.exports import card, golden, savedmodel, warmup
from trainer.exports.card import Card
from trainer.publish import Published, publish
from trainer.runs import folders, plots, runtime
from trainer.runs.progress import Progress
from trainer.runs.run import FIGURES
from trainer.settings import Settings, Tell


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for at the prompt; None leaves it to the zoo file.

    ``seeds``: how many, from ``seed`` on; the model of the median one is published. ``fresh``: take
    up nothing that an earlier, killed training left. ``force``: publish what the gate refuses.
    """

    quick: bool = False
    seed: int = 0
    seeds: int = 1
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    fresh: bool = False
    force: bool = False

    def hyper(self, entry: Entry) -> Hyper:
        start = entry.quick if self.quick else entry.full
        return Hyper(
            epochs=self.epochs or start.epochs,
            batch_size=self.batch_size or start.batch_size,
            learning_rate=self.learning_rate or start.learning_rate,
        )

    def settings_are(self, entry: Entry) -> str:
        """For the card: full, quick or chosen at the prompt."""
        if self.hyper(entry) == entry.full and (not self.quick or entry.full == entry.quick):
            return "full"
        return "quick" if self.quick else "chosen"

    def folds(self, entry: Entry) -> int:
        return 1 if self.quick else entry.folds


@dataclass(frozen=True, slots=True)
class Trial:
    """A training of one seed: the model that would be served, its data, and the score, over all
    folds if there are."""

    seed: int
    served: Any
    data: Split
    score: Score
    folder: Path
    run: Run


def train(entry: Entry, settings: Settings, wish: Wish, *, tell: Tell) -> Published:
    cpu, wall = time.process_time(), time.monotonic()
    with ExitStack() as kept:
        trials = []
        for seed in range(wish.seed, wish.seed + wish.seeds):
            trials.append(kept.enter_context(_trial(entry, settings, wish, seed)))
            if wish.seeds > 1:
                tell(f"{entry.name}: seed {seed}: {_told(entry, trials[-1].score)}")
        chosen = _median(entry, trials)
        cpu_s, wall_s = time.process_time() - cpu, time.monotonic() - wall

        def fill(folder: Path) -> Card:
            savedmodel.save(chosen.served, entry, folder)
            examples = entry.examples(chosen.data)
            golden.write(golden.record(chosen.served, examples), folder)
            warmup.write(entry.name, examples, folder)
            _picture(chosen, folder / card.FOLDER)
            return card.of_training(
                entry,
                chosen.data,
                chosen.score,
                hyper=wish.hyper(entry),
                seed=chosen.seed,
                settings_are=wish.settings_are(entry),
                cpu_s=cpu_s,
                wall_s=wall_s,
                trials={trial.seed: trial.score for trial in trials},
                folds=wish.folds(entry),
            )

        return publish(entry.name, settings, fill, tell=tell, force=wish.force)


@contextmanager
def _trial(entry: Entry, settings: Settings, wish: Wish, seed: int) -> Iterator[Trial]:
    """What was trained is kept until the version is published: killed on the way there, nothing is
    trained twice."""
    folds = wish.folds(entry)
    with ExitStack() as stack:
        made = []
        for fold in range(folds):
            # The data first: where it is not to be had, nobody should have waited for TensorFlow.
            data = entry.load(Want(settings.archives, quick=wish.quick, fold=fold))
            kept = stack.enter_context(
                folders.taken_up(
                    settings.runs / entry.name,
                    _key(entry, wish, data, seed, fold),
                    fresh=wish.fresh,
                )
            )
            name = entry.name if folds == 1 else f"{entry.name}, fold {fold + 1} of {folds}"
            made.append((kept, _one(entry, wish, data, seed, kept.folder, name=name)))
        first = made[0][1]
        score = _mean([trial.score for _, trial in made])
        yield Trial(seed, first.served, first.data, score, first.folder, first.run)
        for kept, _ in made:
            kept.done()


def _one(entry: Entry, wish: Wish, data: Split, seed: int, folder: Path, *, name: str) -> Trial:
    runtime.prepare(seed)
    hyper = wish.hyper(entry)
    run = Run(hyper, seed=seed, progress=Progress(name, epochs=hyper.epochs), folder=folder)
    served = entry.serve(entry.train(data, run))
    score = entry.judge(served, data)
    if not math.isfinite(score.value):
        raise Refused(
            f"{entry.name} was not published: its {entry.metric.name} is {score.value}; the "
            "training diverged"
        )
    trial = Trial(seed, served, data, score, folder, run)
    _picture(trial, folder)
    return trial


def _picture(trial: Trial, folder: Path) -> None:
    """What shows how a training went, into its own folder and beside its version."""
    folder.mkdir(parents=True, exist_ok=True)
    plots.curves(trial.run.history, folder / "curves.png")
    if trial.score.confusion is not None:
        plots.confusion(trial.score.confusion, folder / "confusion.png")
    if folder != trial.folder and (trial.folder / FIGURES).exists():
        shutil.copyfile(trial.folder / FIGURES, folder / FIGURES)


def _median(entry: Entry, trials: list[Trial]) -> Trial:
    """Of an even number the worse of the two in the middle."""
    ordered = sorted(
        trials, key=lambda trial: trial.score.value, reverse=entry.metric.better == "lower"
    )
    return ordered[(len(ordered) - 1) // 2]


def _mean(scores: list[Score]) -> Score:
    if len(scores) == 1:
        return scores[0]
    also: Mapping[str, float] = {
        name: float(np.mean([s.also[name] for s in scores])) for name in scores[0].also
    }
    value, baseline = (
        float(np.mean([getattr(s, side) for s in scores])) for side in ("value", "baseline")
    )
    return Score(value, baseline, also, scores[0].confusion)


def _key(entry: Entry, wish: Wish, data: Split, seed: int, fold: int) -> str:
    """All that a training depends on: only one that was asked for the same may be taken up."""
    rows = {
        side: len(next(iter(getattr(data, side).values()), ()))
        for side in ("train", "validation", "held_out")
    }
    about = [entry.name, asdict(wish.hyper(entry)), seed, fold, card.trainer_sha256(), rows]
    about += [[archive.sha256 for archive in data.data], runtime.version()]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _told(entry: Entry, score: Score) -> str:
    figures = {entry.metric.name: score.value, **score.also}
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
