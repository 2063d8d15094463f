"""One training and what is kept of it: figures, TensorBoard's curves, a checkpoint each epoch.

A training that was killed resumes after its last finished epoch and ends as it would have ended:
everything it depends on is either in the checkpoint (weights, the optimizer's and the random
layers' state, the figures so far) or follows from seed and epoch.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trainer.runs.progress import Progress

CHECKPOINT = "checkpoint.npz"
FIGURES = "metrics.jsonl"
TENSORBOARD = "tensorboard"
# Keras' prefix for figures on validation rows.
_VALIDATION = "val_"

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Hyper:
    epochs: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Stops when ``figure`` has not improved for ``patience`` epochs; keeps the best weights."""

    figure: str
    better: Literal["higher", "lower"]
    patience: int

    def best(self, history: Sequence[Figures]) -> int:
        """The index of the best epoch, the first of equals. NaN is never the best."""
        best_index = 0
        best_value = math.inf
        for index, figures in enumerate(history):
            value = figures[self.figure]
            if self.better == "higher":
                value = -value
            if value < best_value:
                best_index = index
                best_value = value
        return best_index


class Run:
    """One training. Your own loop takes its epochs from ``epochs()``.

    With Keras' fit, call begin() and add keras_callback().
    """

    def __init__(
        self, hyper: Hyper, *, seed: int, progress: Progress, folder: Path | None = None
    ) -> None:
        """``folder``: where checkpoints and figures go; None writes none."""
        self.hyper = hyper
        self.seed = seed
        self.progress = progress
        self.folder = folder
        self.history: list[Figures] = []
        self._variables: list[Any] = []
        # The model's own are the first of them.
        self._model_variables = 0
        self._best_weights: list[np.ndarray] = []
        self._early_stopping: EarlyStopping | None = None
        self._tensorboard: _TensorBoard | None = None
        self._reported: Figures = {}

    def epochs(
        self, model: Any, *others: Any, early_stopping: EarlyStopping | None = None
    ) -> Iterator[int]:
        """The epochs that are still to be trained, from 0 on. Call report() in each."""
        first = self.begin(model, *others, early_stopping=early_stopping)
        for epoch in range(first, self.hyper.epochs):
            if self.stopped:
                break
            yield epoch
            self.finish(self._reported)
        self.end()

    def report(self, **figures: float) -> None:
        """An epoch's figures; those on validation rows begin with val_."""
        self._reported = figures

    def begin(self, model: Any, *others: Any, early_stopping: EarlyStopping | None = None) -> int:
        """Restore the checkpoint of a killed run, if any; returns the first epoch to train.

        ``model`` and ``others``, an optimizer say, have ``variables``, which must all exist by now.
        """
        model_variables = _unique(model.variables)
        # A list of our own, because Keras adds the variables of metrics to a model later.
        variables = list(model_variables)
        for other in others:
            variables += other.variables
        self._variables = _unique(variables)
        self._model_variables = len(model_variables)
        self._early_stopping = early_stopping

        if self.folder is not None:
            self._resume(self.folder)
        if self.stopped:
            return self.hyper.epochs
        return len(self.history)

    @property
    def stopped(self) -> bool:
        """Whether early stopping ended the training."""
        if self._early_stopping is None or not self.history:
            return False
        last = len(self.history) - 1
        best = self._early_stopping.best(self.history)
        return last - best >= self._early_stopping.patience

    def finish(self, figures: Figures) -> None:
        """An epoch is done; from here on it is never trained again."""
        epoch_figures = {name: float(value) for name, value in figures.items()}
        self.history.append(epoch_figures)
        epoch = len(self.history) - 1

        if self._early_stopping is not None:
            best = self._early_stopping.best(self.history)
            if best == epoch:
                weights = self._variables[: self._model_variables]
                self._best_weights = [_value(variable) for variable in weights]

        if self.folder is not None:
            self._save(self.folder / CHECKPOINT)
            _write_figures(self.folder / FIGURES, self.history)
        if self._tensorboard is not None:
            self._tensorboard.write(epoch, epoch_figures)

        finished = epoch + 1
        is_last = finished == self.hyper.epochs or self.stopped
        self.progress.epoch(finished, last=is_last, **epoch_figures)

    def end(self) -> None:
        """With early stopping, the model gets the weights of its best epoch."""
        for variable, value in zip(self._variables, self._best_weights, strict=False):
            variable.assign(value)
        if self._tensorboard is not None:
            self._tensorboard.close()

    def _resume(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._restore(folder / CHECKPOINT)
        self._tensorboard = _TensorBoard(folder / TENSORBOARD)
        for epoch, figures in enumerate(self.history):
            self._tensorboard.write(epoch, figures)
        if self.history:
            self.progress.resumed(len(self.history))

    def _save(self, path: Path) -> None:
        # numpy's own format: no graph, no second variable of a Keras one, and one file that is
        # there or not.
        history = json.dumps(self.history)
        arrays = {"history": np.array(history)}
        for i, variable in enumerate(self._variables):
            arrays[f"v{i}"] = _value(variable)
        for i, weights in enumerate(self._best_weights):
            arrays[f"b{i}"] = weights

        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def _restore(self, path: Path) -> None:
        if not path.exists():
            return
        with np.load(path) as arrays:
            for i, variable in enumerate(self._variables):
                variable.assign(arrays[f"v{i}"])
            if "b0" in arrays:
                self._best_weights = []
                for i in range(self._model_variables):
                    self._best_weights.append(arrays[f"b{i}"])
            history = str(arrays["history"])
            self.history = json.loads(history)


class _TensorBoard:
    """Scalars for TensorBoard. All epochs are written again, so an earlier process's files go."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def write(self, epoch: int, figures: Figures) -> None:
        import tensorflow as tf

        for name, value in figures.items():
            side = "train"
            if name.startswith(_VALIDATION):
                side = "validation"
            if side not in self._writers:
                folder = self._folder / side
                self._writers[side] = tf.summary.create_file_writer(str(folder))
            title = name.removeprefix(_VALIDATION)
            with self._writers[side].as_default():
                tf.summary.scalar(f"epoch/{title}", value, step=epoch + 1)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


def _unique(variables: Sequence[Any]) -> list[Any]:
    by_id = {id(variable): variable for variable in variables}
    return list(by_id.values())


def _value(variable: Any) -> np.ndarray:
    return np.array(variable.numpy())


def _write_figures(path: Path, history: Sequence[Figures]) -> None:
    lines = []
    for epoch, figures in enumerate(history, start=1):
        row = {"epoch": epoch, **figures}
        lines.append(json.dumps(row) + "\n")
    temporary = path.with_name(f".{path.name}")
    temporary.write_text("".join(lines), encoding="utf-8")
    os.replace(temporary, path)
