"""Trains one model: loads its data, trains each seed, judges, exports and publishes the median."""

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

from headrace.store import card
from headrace.store.card import Card
from trainer.entry import Entry, Hyper, LoadRequest, Run, Score, Split
from trainer.errors import Refused
from trainer.exports import golden, new_card, savedmodel, warmup
from trainer.exports.new_card import TrainingRecord
from trainer.publish import Published, publish
from trainer.runs import plots, run_folder, runtime
from trainer.runs.progress import Progress
from trainer.runs.run import FIGURES
from trainer.settings import Settings, Tell


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The options of the command line; None leaves a value to the zoo file."""

    quick: bool = False
    # The first seed, and how many to train; the model with the median score is published.
    seed: int = 0
    seeds: int = 1
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    # Resume nothing that an earlier, killed training left.
    fresh: bool = False
    # Publish even what the gate refuses.
    force: bool = False

    def hyper(self, entry: Entry) -> Hyper:
        default = entry.quick if self.quick else entry.full
        return Hyper(
            epochs=self.epochs or default.epochs,
            batch_size=self.batch_size or default.batch_size,
            learning_rate=self.learning_rate or default.learning_rate,
        )

    def settings_are(self, entry: Entry) -> str:
        """For the card: full, quick or chosen."""
        if self.hyper(entry) == entry.full and (not self.quick or entry.full == entry.quick):
            return "full"
        return "quick" if self.quick else "chosen"

    def folds(self, entry: Entry) -> int:
        return 1 if self.quick else entry.folds


@dataclass(frozen=True, slots=True)
class Trial:
    """The training of one seed: the module that would be served, its data and its score.

    With folds it is that of the first fold, with the mean score of all.
    """

    seed: int
    served: Any
    data: Split
    score: Score
    folder: Path
    run: Run


def train(entry: Entry, settings: Settings, options: TrainOptions, *, tell: Tell) -> Published:
    cpu_began, wall_began = time.process_time(), time.monotonic()
    # Checkpoints are kept until the version is published.
    with ExitStack() as stack:
        trials = []
        for seed in range(options.seed, options.seed + options.seeds):
            trial = stack.enter_context(_trial(entry, settings, options, seed))
            trials.append(trial)
            if options.seeds > 1:
                tell(f"{entry.name}: seed {seed}: {_figures(entry, trial.score)}")
        median = _median(entry, trials)
        training = TrainingRecord(
            hyper=options.hyper(entry),
            settings_are=options.settings_are(entry),
            seed=median.seed,
            scores={trial.seed: trial.score for trial in trials},
            folds=options.folds(entry),
            cpu_s=time.process_time() - cpu_began,
            wall_s=time.monotonic() - wall_began,
        )

        def fill(folder: Path) -> Card:
            savedmodel.save(median.served, entry, folder)
            examples = entry.examples(median.data)
            golden.write(golden.record(median.served, examples), folder)
            warmup.write(entry.name, examples, folder)
            _draw_plots(median, folder / card.FOLDER)
            return new_card.of_training(entry, median.data, median.score, training)

        return publish(entry.name, settings, fill, tell=tell, force=options.force)


@contextmanager
def _trial(entry: Entry, settings: Settings, options: TrainOptions, seed: int) -> Iterator[Trial]:
    """One seed, each fold in a run folder of its own; their checkpoints go at the end."""
    folds = options.folds(entry)
    with ExitStack() as stack:
        run_folders = []
        trials = []
        for fold in range(folds):
            # Before TensorFlow is imported: nobody should wait for that when the data is missing.
            request = LoadRequest(settings.archives, quick=options.quick, fold=fold)
            data = entry.load(request)
            folder = stack.enter_context(
                run_folder.resume_or_start(
                    settings.runs / entry.name,
                    _key(entry, options, data, seed, fold),
                    fresh=options.fresh,
                )
            )
            run_folders.append(folder)
            title = entry.name
            if folds > 1:
                title += f", fold {fold + 1} of {folds}"
            trials.append(_train_once(entry, options, data, seed, folder.path, title=title))
        first = trials[0]
        score = _mean([trial.score for trial in trials])
        yield Trial(seed, first.served, first.data, score, first.folder, first.run)
        for folder in run_folders:
            folder.remove_checkpoint()


def _train_once(
    entry: Entry, options: TrainOptions, data: Split, seed: int, folder: Path, *, title: str
) -> Trial:
    runtime.prepare(seed)
    hyper = options.hyper(entry)
    run = Run(hyper, seed=seed, progress=Progress(title, epochs=hyper.epochs), folder=folder)
    served = entry.serve(entry.train(data, run))
    score = entry.judge(served, data)
    if not math.isfinite(score.value):
        raise Refused(
            f"{entry.name} was not published: its {entry.metric.name} is {score.value}; "
            "the training diverged"
        )
    trial = Trial(seed, served, data, score, folder, run)
    _draw_plots(trial, folder)
    return trial


def _draw_plots(trial: Trial, folder: Path) -> None:
    """Plots and figures of a training, for its own folder and for that of its version."""
    folder.mkdir(parents=True, exist_ok=True)
    plots.curves(trial.run.history, folder / "curves.png")
    if trial.score.confusion is not None:
        plots.confusion(trial.score.confusion, folder / "confusion.png")
    figures = trial.folder / FIGURES
    if folder != trial.folder and figures.exists():
        shutil.copyfile(figures, folder / FIGURES)


def _median(entry: Entry, trials: list[Trial]) -> Trial:
    """Of an even number, the worse of the two in the middle."""
    best_last = sorted(
        trials, key=lambda trial: trial.score.value, reverse=entry.metric.better == "lower"
    )
    return best_last[(len(best_last) - 1) // 2]


def _mean(scores: list[Score]) -> Score:
    if len(scores) == 1:
        return scores[0]
    also: Mapping[str, float] = {
        name: float(np.mean([score.also[name] for score in scores])) for name in scores[0].also
    }
    return Score(
        value=float(np.mean([score.value for score in scores])),
        baseline=float(np.mean([score.baseline for score in scores])),
        also=also,
        confusion=scores[0].confusion,
    )


def _key(entry: Entry, options: TrainOptions, data: Split, seed: int, fold: int) -> str:
    """A hash of all that a training depends on: only one with the same key may be resumed."""
    rows = {}
    for side in ("train", "validation", "held_out"):
        columns = getattr(data, side)
        rows[side] = len(next(iter(columns.values()), ()))
    dependencies = [
        entry.name,
        asdict(options.hyper(entry)),
        seed,
        fold,
        new_card.trainer_sha256(),
        rows,
        [archive.sha256 for archive in data.data],
        runtime.version(),
    ]
    return hashlib.sha256(json.dumps(dependencies).encode()).hexdigest()


def _figures(entry: Entry, score: Score) -> str:
    figures = {entry.metric.name: score.value, **score.also}
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
