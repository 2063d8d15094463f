"""One training and what is kept of it on the way: figures, curves for TensorBoard, and a checkpoint
after each epoch.

A training that was killed is taken up after its last finished epoch and ends as it would have
ended: everything it depends on is either in the checkpoint (weights, the optimizer's and the random
layers' state, the figures so far) or follows from seed and epoch.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trainer.runs.progress import Progress

CHECKPOINT, FIGURES, TENSORBOARD = "checkpoint.npz", "metrics.jsonl", "tensorboard"
# As Keras names them.
_VALIDATION = "val_"

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Hyper:
    epochs: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Watch:
    """Stop when ``figure`` has not been better for ``patience`` epochs; the best epoch's weights
    are kept."""

    figure: str
    better: Literal["higher", "lower"]
    patience: int

    def best(self, history: Sequence[Figures]) -> int:
        """The index of the best epoch, the first of equals. A figure that is not a number is never
        it."""
        worst = float("inf")
        sign = -1.0 if self.better == "higher" else 1.0
        values = [sign * figures[self.figure] for figures in history]
        return min(range(len(values)), key=lambda i: values[i] if values[i] == values[i] else worst)


class Run:
    """A loop of one's own takes its epochs from ``epochs()``; with Keras' fit, call begin() and add
    callback.keep()."""

    def __init__(
        self, hyper: Hyper, *, seed: int, progress: Progress, folder: Path | None = None
    ) -> None:
        """``folder``: where things are kept; None keeps nothing."""
        self.hyper = hyper
        self.seed = seed
        self.progress = progress
        self.folder = folder
        self.history: list[Figures] = []
        self._variables: list[Any] = []
        self._model_variables = 0
        self._best: list[np.ndarray] = []
        self._watch: Watch | None = None
        self._board: _Board | None = None
        self._told: Figures = {}

    def epochs(self, model: Any, *others: Any, watch: Watch | None = None) -> Iterator[int]:
        """The epochs that are still to be trained, from 0 on. Call tell() in each."""
        first = self.begin(model, *others, watch=watch)
        for epoch in range(first, self.hyper.epochs):
            if self.stopped:
                break
            yield epoch
            self.finish(self._told)
        self.end()

    def tell(self, **figures: float) -> None:
        """An epoch's figures; those on validation rows begin with val_."""
        self._told = figures

    def begin(self, model: Any, *others: Any, watch: Watch | None = None) -> int:
        """Put back what a killed run left in the folder; the first epoch that is still to be
        trained.

        ``model`` and ``others``, an optimizer say, have ``variables``, all of them made by now.
        """
        # This very list: Keras adds the variables of metrics to a model later.
        self._variables = list(
            _unique([*model.variables, *(v for other in others for v in other.variables)])
        )
        self._model_variables = len(list(_unique(model.variables)))
        self._watch = watch
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._restore(self.folder / CHECKPOINT)
            self._board = _Board(self.folder / TENSORBOARD)
            for epoch, figures in enumerate(self.history):
                self._board.write(epoch, figures)
            if self.history:
                self.progress.resumed(len(self.history))
        return self.hyper.epochs if self.stopped else len(self.history)

    @property
    def stopped(self) -> bool:
        """Whether watching said to stop."""
        if self._watch is None or not self.history:
            return False
        return len(self.history) - 1 - self._watch.best(self.history) >= self._watch.patience

    def finish(self, figures: Figures) -> None:
        """An epoch is done: from here on it need not be trained again."""
        self.history.append({name: float(value) for name, value in figures.items()})
        if self._watch is not None and self._watch.best(self.history) == len(self.history) - 1:
            self._best = [_value(v) for v in self._variables[: self._model_variables]]
        if self.folder is not None:
            self._save(self.folder / CHECKPOINT)
            lines = (json.dumps({"epoch": i + 1, **f}) for i, f in enumerate(self.history))
            _write(self.folder / FIGURES, "".join(f"{line}\n" for line in lines).encode())
        if self._board is not None:
            self._board.write(len(self.history) - 1, self.history[-1])
        last = len(self.history) == self.hyper.epochs or self.stopped
        self.progress.epoch(len(self.history), last=last, **self.history[-1])

    def end(self) -> None:
        """The weights of the best epoch, where one was watched for."""
        for variable, value in zip(self._variables, self._best, strict=False):
            variable.assign(value)
        if self._board is not None:
            self._board.close()

    def _save(self, path: Path) -> None:
        # numpy's own format: no graph, no second variable of a Keras one, and one file that is
        # there or not.
        aside = path.with_suffix(".tmp")
        arrays = {f"v{i}": _value(v) for i, v in enumerate(self._variables)}
        arrays |= {f"b{i}": value for i, value in enumerate(self._best)}
        with aside.open("wb") as file:
            np.savez(file, history=np.array(json.dumps(self.history)), **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)

    def _restore(self, path: Path) -> None:
        if not path.exists():
            return
        with np.load(path) as kept:
            for i, variable in enumerate(self._variables):
                variable.assign(kept[f"v{i}"])
            self._best = (
                [kept[f"b{i}"] for i in range(self._model_variables)] if "b0" in kept else []
            )
            self.history = json.loads(str(kept["history"]))


class _Board:
    """Scalars for TensorBoard; what an earlier process wrote goes, since all epochs are written
    again."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def write(self, epoch: int, figures: Figures) -> None:
        import tensorflow as tf

        for name, value in figures.items():
            side = "validation" if name.startswith(_VALIDATION) else "train"
            if side not in self._writers:
                self._writers[side] = tf.summary.create_file_writer(str(self._folder / side))
            with self._writers[side].as_default():
                tf.summary.scalar(f"epoch/{name.removeprefix(_VALIDATION)}", value, step=epoch + 1)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


def _unique(variables: Sequence[Any]) -> Iterator[Any]:
    seen: set[int] = set()
    for variable in variables:
        if id(variable) not in seen:
            seen.add(id(variable))
            yield variable


def _value(variable: Any) -> np.ndarray:
    return np.array(variable.numpy())


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}")
    aside.write_bytes(content)
    os.replace(aside, path)
