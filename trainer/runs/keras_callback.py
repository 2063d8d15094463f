"""A Run inside Keras' fit: progress, figures, checkpoints and early stopping, as a callback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.runs.run import Run

_Logs = Mapping[str, float] | None


def keras_callback(run: Run, *, steps: int) -> Any:
    """A callback that reports each epoch to ``run``, and stops the fit when the run says so.

    ``steps`` are those of an epoch. Call run.begin() before the fit.
    """
    import tensorflow as tf

    class RunCallback(tf.keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: _Logs = None) -> None:
            run.progress.step(len(run.history) + 1, batch + 1, steps)

        def on_epoch_end(self, epoch: int, logs: _Logs = None) -> None:
            run.finish(logs or {})
            self.model.stop_training = run.stopped

        def on_train_end(self, logs: _Logs = None) -> None:
            run.end()

    return RunCallback()
