"""Trains one model: loads its data, trains each seed, judges, exports and publishes the median."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
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
        default = entry.full
        if self.quick:
            default = entry.quick
        return Hyper(
            epochs=self.epochs or default.epochs,
            batch_size=self.batch_size or default.batch_size,
            learning_rate=self.learning_rate or default.learning_rate,
        )

    def settings_are(self, entry: Entry) -> str:
        """For the card: full, quick or chosen."""
        is_quick = self.quick and entry.full != entry.quick
        if self.hyper(entry) == entry.full and not is_quick:
            return "full"
        if self.quick:
            return "quick"
        return "chosen"

    def folds(self, entry: Entry) -> int:
        if self.quick:
            return 1
        return entry.folds


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
        scores = {trial.seed: trial.score for trial in trials}
        training = TrainingRecord(
            hyper=options.hyper(entry),
            settings_are=options.settings_are(entry),
            seed=median.seed,
            scores=scores,
            folds=options.folds(entry),
            cpu_s=time.process_time() - cpu_began,
            wall_s=time.monotonic() - wall_began,
        )

        def fill(folder: Path) -> Card:
            savedmodel.save(median.served, entry, folder)
            examples = entry.examples(median.data)
            requests = golden.record(median.served, examples)
            golden.write(requests, folder)
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
            key = _key(entry, options, data, seed, fold)
            run_context = run_folder.resume_or_start(
                settings.runs / entry.name,
                key,
                fresh=options.fresh,
            )
            folder = stack.enter_context(run_context)
            run_folders.append(folder)

            title = entry.name
            if folds > 1:
                title += f", fold {fold + 1} of {folds}"
            trial = _train_once(
                entry,
                options,
                data,
                seed,
                folder.path,
                title=title,
            )
            trials.append(trial)

        scores = [trial.score for trial in trials]
        yield replace(trials[0], score=_mean(scores))
        for folder in run_folders:
            folder.remove_checkpoint()


def _train_once(
    entry: Entry, options: TrainOptions, data: Split, seed: int, folder: Path, *, title: str
) -> Trial:
    runtime.prepare(seed)
    hyper = options.hyper(entry)
    progress = Progress(title, epochs=hyper.epochs)
    run = Run(hyper, seed=seed, progress=progress, folder=folder)

    trained = entry.train(data, run)
    served = entry.serve(trained)
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
        trials,
        key=lambda trial: trial.score.value,
        reverse=entry.metric.better == "lower",
    )
    middle = (len(best_last) - 1) // 2
    return best_last[middle]


def _mean(scores: list[Score]) -> Score:
    """The mean of the figures, with the confusion matrix of the first."""
    first = scores[0]
    if len(scores) == 1:
        return first
    values = [score.value for score in scores]
    baselines = [score.baseline for score in scores]
    also = {}
    for name in first.also:
        figures = [score.also[name] for score in scores]
        also[name] = float(np.mean(figures))
    return Score(
        value=float(np.mean(values)),
        baseline=float(np.mean(baselines)),
        also=also,
        confusion=first.confusion,
    )


def _key(entry: Entry, options: TrainOptions, data: Split, seed: int, fold: int) -> str:
    """A hash of all that a training depends on: only one with the same key may be resumed."""
    rows = {}
    for side in ("train", "validation", "held_out"):
        columns = getattr(data, side)
        rows[side] = len(next(iter(columns.values()), ()))
    hyper = options.hyper(entry)
    dependencies = [
        entry.name,
        asdict(hyper),
        seed,
        fold,
        new_card.trainer_sha256(),
        rows,
        [archive.sha256 for archive in data.data],
        runtime.version(),
    ]
    text = json.dumps(dependencies)
    return hashlib.sha256(text.encode()).hexdigest()


def _figures(entry: Entry, score: Score) -> str:
    figures = {entry.metric.name: score.value, **score.also}
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
