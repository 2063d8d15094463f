"""Keras' fit inside a Run: progress, figures, checkpoints and early stopping, as a callback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.runs.run import Run


def keep(run: Run, *, steps: int) -> Any:
    """A callback that tells ``run`` of each epoch, and stops the fit when the run says so. Call
    run.begin() before."""
    import tensorflow as tf

    class Keep(tf.keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
            run.progress.step(len(run.history) + 1, batch + 1, steps)

        def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
            run.finish(logs or {})
            self.model.stop_training = run.stopped

        def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
            run.end()

    return Keep()
