"""Batches for all epochs of a training, as one tf.data pipeline that starts at any of them.

The order of an epoch follows from seed and epoch alone (trainer.data.split.order), so a training
that is taken up again sees the rows it would have seen. Reading, decoding and whatever else
``each`` does runs beside the training step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from trainer.data import split
from trainer.data.rows import Arrays
from trainer.runs.run import Run


def steps(rows: Arrays, run: Run) -> int:
    """Batches an epoch; the last one may be smaller."""
    return -(-_count(rows) // run.hyper.batch_size)


def batches(
    rows: Arrays,
    run: Run,
    *,
    first: int,
    each: Callable[..., Any] | None = None,
    together: Callable[..., Any] | None = None,
) -> Any:
    """A tf.data.Dataset of the columns of ``rows``, epoch after epoch from ``first`` on, steps()
    batches each.

    ``each``: called with the columns of one row, in a graph; it gives what the step takes of it.
    ``together``: called with a batch of these, for what costs less when it is done for many at
    once.
    """
    import tensorflow as tf

    columns = tuple(tf.constant(column) for column in rows.values())
    order = _orders(_count(rows), run, first)

    def of_epoch(rows: Any) -> Any:
        """Batched inside an epoch: a batch never holds rows of two."""
        if each is None:
            picked = tf.data.Dataset.from_tensor_slices(rows).batch(run.hyper.batch_size)
            return picked.map(lambda rows: tuple(tf.gather(c, rows) for c in columns))
        ordered = tf.data.Dataset.from_tensor_slices(tuple(tf.gather(c, rows) for c in columns))
        made = ordered.map(each).batch(run.hyper.batch_size)
        return made if together is None else made.map(together)

    return _plain(order.flat_map(of_epoch).prefetch(tf.data.AUTOTUNE))


def watched(*columns: np.ndarray | dict[str, np.ndarray], batch_size: int = 256) -> Any:
    """Rows to validate by, in their own order."""
    import tensorflow as tf

    return _plain(tf.data.Dataset.from_tensor_slices(columns).batch(batch_size))


def _plain(dataset: Any) -> Any:
    """Without maps in parallel: where operations must be deterministic TensorFlow undoes that, and
    logs an error. The pipeline as a whole still runs beside the step."""
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

    return tf.data.Dataset.from_generator(orders, output_signature=tf.TensorSpec([count], tf.int64))


def _count(rows: Arrays) -> int:
    return len(next(iter(rows.values())))


def epoch_by_epoch(of_epoch: Callable[[int], Any], run: Run, *, first: int) -> Any:
    """One pipeline of several, for rows that come in the order of a file: ``of_epoch`` is given a
    seed."""
    import tensorflow as tf

    drawn = [
        int(np.random.default_rng([run.seed, epoch]).integers(1 << 31))
        for epoch in range(run.hyper.epochs)
    ]
    parts = [of_epoch(seed) for seed in drawn[first:]] or [of_epoch(0).take(0)]
    return _plain(functools.reduce(tf.data.Dataset.concatenate, parts).prefetch(tf.data.AUTOTUNE))
