"""Batches for all epochs of a training, as one tf.data pipeline that can start at any epoch.

The order of an epoch follows from seed and epoch alone (trainer.data.split.order), so a resumed
training sees the rows it would have seen. Reading, decoding and the like run beside the step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from trainer.data import split
from trainer.data.rows import Arrays
from trainer.runs.run import Run


def steps(rows: Arrays, run: Run) -> int:
    """Batches in an epoch; the last one may be smaller."""
    return math.ceil(_count(rows) / run.hyper.batch_size)


def batches(
    rows: Arrays,
    run: Run,
    *,
    first: int,
    map_row: Callable[..., Any] | None = None,
    map_batch: Callable[..., Any] | None = None,
) -> Any:
    """A tf.data.Dataset of the columns of ``rows``, from epoch ``first`` on, steps() batches each.

    ``map_row`` is called in a graph with the columns of one row, and returns what the step takes.
    ``map_batch`` is called with a batch of these, for work that is cheaper for many rows at once.
    """
    import tensorflow as tf

    columns = tuple(tf.constant(column) for column in rows.values())

    def gathered(numbers: Any) -> Any:
        return tuple(tf.gather(column, numbers) for column in columns)

    def of_epoch(numbers: Any) -> Any:
        """Batches of one epoch alone: none holds rows of two."""
        if map_row is None:
            ordered = tf.data.Dataset.from_tensor_slices(numbers)
            batched = ordered.batch(run.hyper.batch_size)
            return batched.map(gathered)
        ordered = tf.data.Dataset.from_tensor_slices(gathered(numbers))
        batched = ordered.map(map_row).batch(run.hyper.batch_size)
        if map_batch is None:
            return batched
        return batched.map(map_batch)

    orders = _orders(_count(rows), run, first)
    epochs = orders.flat_map(of_epoch)
    return _sequential(epochs.prefetch(tf.data.AUTOTUNE))


def epoch_by_epoch(of_epoch: Callable[[int], Any], run: Run, *, first: int) -> Any:
    """One pipeline of several, for rows that come in the order of a file.

    ``of_epoch`` gets the seed of an epoch.
    """
    import tensorflow as tf

    epochs = []
    for epoch in range(first, run.hyper.epochs):
        generator = np.random.default_rng([run.seed, epoch])
        seed = int(generator.integers(1 << 31))
        epochs.append(of_epoch(seed))
    if not epochs:
        epochs.append(of_epoch(0).take(0))
    whole = functools.reduce(tf.data.Dataset.concatenate, epochs)
    return _sequential(whole.prefetch(tf.data.AUTOTUNE))


def validation_batches(*columns: np.ndarray | dict[str, np.ndarray], batch_size: int = 256) -> Any:
    """Rows to validate by, in their own order."""
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices(columns)
    return _sequential(rows.batch(batch_size))


def _sequential(dataset: Any) -> Any:
    """Without parallel maps: TensorFlow undoes them when operations must be deterministic, and logs
    an error. The pipeline as a whole still runs beside the step."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_optimization.map_parallelization = False
    return dataset.with_options(options)


def _orders(count: int, run: Run, first: int) -> Any:
    """The order of the rows, epoch by epoch."""
    import tensorflow as tf

    def orders() -> Any:
        for epoch in range(first, run.hyper.epochs):
            yield split.order(count, seed=run.seed, epoch=epoch)

    order_of_epoch = tf.TensorSpec([count], tf.int64)
    return tf.data.Dataset.from_generator(orders, output_signature=order_of_epoch)


def _count(rows: Arrays) -> int:
    first_column = next(iter(rows.values()))
    return len(first_column)
