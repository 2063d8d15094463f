"""Exports graphs that treat rows one by one, and such as only seem to: ``export_rows.py FOLDER``,
in a child process.

Each is a signature of one of two models: ``apart`` and ``mixed``. Its inputs are named after its
arguments.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

RNG = np.random.default_rng(3)


def spec(*shape: int | None, dtype: Any = tf.float32) -> Any:
    return tf.TensorSpec([None, *shape], dtype)


def fixed(*shape: int) -> Any:
    return tf.constant(RNG.normal(size=shape).astype(np.float32))


HELD = tf.Module()
HELD.dense = tf.Variable(RNG.normal(size=(6, 3)).astype(np.float32))
HELD.table = tf.Variable(RNG.normal(size=(10, 4)).astype(np.float32))
HELD.kernel = tf.Variable(RNG.normal(size=(3, 3, 2, 4)).astype(np.float32))
HELD.line = tf.Variable(RNG.normal(size=(3, 4, 5)).astype(np.float32))
HELD.heads = tf.Variable(RNG.normal(size=(4, 2, 3)).astype(np.float32))

Kind = tuple[Callable[..., Any], Mapping[str, Any]]

APART: Mapping[str, Kind] = {
    "dense": (lambda x: tf.nn.softmax(tf.nn.relu(x @ HELD.dense + fixed(3))), {"x": spec(6)}),
    "dense_over_steps": (lambda x: tf.tensordot(x, HELD.dense, 1), {"x": spec(5, 6)}),
    "flattened": (lambda x: tf.reshape(x, [-1, 6]) @ HELD.dense, {"x": spec(3, 2)}),
    "flattened_by_shape": (
        lambda x: tf.reshape(x, [tf.shape(x)[0], 6]) @ HELD.dense,
        {"x": spec(3, 2)},
    ),
    "embedded": (
        lambda i: tf.reduce_mean(tf.gather(HELD.table, i), 1),
        {"i": spec(5, dtype=tf.int32)},
    ),
    "embedded_free": (
        lambda i: tf.reduce_max(tf.gather(HELD.table, i), 1),
        {"i": spec(None, dtype=tf.int32)},
    ),
    "convolved": (
        lambda x: tf.reshape(
            tf.nn.max_pool2d(tf.nn.conv2d(x, HELD.kernel, 1, "VALID"), 2, 2, "VALID"), [-1, 36]
        ),
        {"x": spec(8, 8, 2)},
    ),
    "convolved_line": (
        lambda x: tf.reduce_max(tf.nn.conv1d(x, HELD.line, 1, "SAME"), 1),
        {"x": spec(None, 4)},
    ),
    "attention": (lambda x: _attention(x), {"x": spec(5, 4)}),
    "normalised": (
        lambda x: tf.compat.v1.nn.fused_batch_norm(
            x, fixed(2), fixed(2), mean=fixed(2), variance=tf.abs(fixed(2)), is_training=False
        )[0],
        {"x": spec(4, 4, 2)},
    ),
    "layer_normalised": (
        lambda x: (
            (x - tf.reduce_mean(x, -1, True))
            * tf.math.rsqrt(tf.math.reduce_variance(x, -1, True) + 1e-3)
        ),
        {"x": spec(6)},
    ),
    "padded_and_cut": (lambda x: tf.pad(x, [[0, 0], [1, 2]])[:, 1:-1], {"x": spec(6)}),
    "hot": (lambda i: tf.one_hot(i, 4) @ fixed(4, 2), {"i": spec(dtype=tf.int32)}),
    "two_inputs": (
        lambda a, b: tf.concat([a, tf.expand_dims(b, 1)], 1),
        {"a": spec(2), "b": spec()},
    ),
    "best": (lambda x: tf.argmax(x, 1), {"x": spec(6)}),
    "top": (lambda x: tf.math.top_k(x, 2).values, {"x": spec(6)}),
    "chosen": (lambda x: tf.where(x > 0, x, tf.zeros_like(x) - 1.0), {"x": spec(2)}),
    "turned": (lambda x: tf.transpose(x, [0, 2, 1]), {"x": spec(2, 3)}),
    "split": (lambda x: tf.stack(tf.split(x, 2, 1), 1), {"x": spec(6)}),
    "padding_row": (lambda x: tf.concat([tf.zeros([tf.shape(x)[0], 2]), x], 1), {"x": spec(2)}),
    "words": (
        lambda s: tf.strings.to_hash_bucket_fast(tf.strings.lower(s), 100),
        {"s": spec(dtype=tf.string)},
    ),
    "half": (lambda x: tf.cast(x, tf.float16) * 2, {"x": spec(3)}),
}

MIXED: Mapping[str, Kind] = {
    "centred": (lambda x: x - tf.reduce_mean(x, 0), {"x": spec(3)}),
    "centred_all": (lambda x: x - tf.reduce_mean(x), {"x": spec(3)}),
    "bound_by_row_0": (
        lambda x: tf.while_loop(
            lambda i, _: i < tf.cast(x[0], tf.int32), lambda i, a: (i + 1, a + 1.0), [0, x]
        )[1],
        {"x": spec()},
    ),
    "reversed": (lambda x: x[::-1], {"x": spec(3)}),
    "running": (lambda x: tf.cumsum(x), {"x": spec()}),
    "softmax_over_rows": (lambda x: tf.nn.softmax(x, 0), {"x": spec(3)}),
    "softmax_flat": (lambda x: tf.nn.softmax(x), {"x": spec()}),
    "merged_rows": (lambda x: tf.reshape(x, [-1, 4]), {"x": spec(2)}),
    "merged_and_back": (
        lambda x: tf.reshape(
            tf.reduce_max(tf.reshape(x, [-1, 4]), 1, True) + tf.zeros([4]), [-1, 2]
        ),
        {"x": spec(2)},
    ),
    "cut_then_merged": (lambda x: tf.reshape(x[:, :4], [-1, 4]), {"x": spec(None)}),
    "first_row": (lambda x: x + x[0], {"x": spec(3)}),
    "all_pairs": (lambda x: x[:, None] + x[None, :], {"x": spec()}),
    "sorted": (lambda x: tf.sort(x), {"x": spec()}),
    "counted": (lambda x: x / tf.cast(tf.shape(x)[0], tf.float32), {"x": spec(3)}),
    "numbered": (lambda x: x + tf.cast(tf.range(tf.shape(x)[0]), tf.float32), {"x": spec()}),
    "gathered": (lambda x, i: tf.gather(x, i), {"x": spec(3), "i": spec(dtype=tf.int32)}),
    "concatenated": (lambda x: tf.concat([x, x], 0), {"x": spec(3)}),
    "repeated": (lambda x: tf.tile(x, [2, 1]), {"x": spec(3)}),
    "turned": (lambda x: tf.transpose(tf.transpose(x) @ fixed(3, 3)), {"x": spec(3)}),
    "own_weights": (lambda x: x @ tf.transpose(x), {"x": spec(3)}),
    "normalised_by_batch": (
        lambda x: tf.compat.v1.nn.fused_batch_norm(x, fixed(2), fixed(2), is_training=True)[0],
        {"x": spec(4, 4, 2)},
    ),
    "random": (lambda x: x + tf.random.normal([3]), {"x": spec(3)}),
    "unique": (lambda x: tf.gather(tf.unique(x)[0], tf.unique(x)[1]), {"x": spec()}),
    "segments": (lambda x: tf.math.cumulative_logsumexp(x, 0), {"x": spec(3)}),
    "pooled_rows": (lambda x: tf.nn.max_pool1d(x[None], 2, 1, "SAME")[0], {"x": spec(3)}),
    "einsum": (lambda x: tf.einsum("nd,md->nd", x, x), {"x": spec(3)}),
    "longest_word": (lambda s: tf.strings.split(s).to_tensor(""), {"s": spec(dtype=tf.string)}),
    "mapped": (lambda x: tf.map_fn(lambda row: row * 2, x), {"x": spec(3)}),
    "no_rows": (lambda x: tf.zeros([3]), {"x": spec(3)}),
    "fixed_rows": (lambda x: x, {"x": tf.TensorSpec([2, 3], tf.float32)}),
}


def _attention(x: Any) -> Any:
    q = tf.einsum("abc,cde->abde", x, HELD.heads)
    weights = tf.nn.softmax(tf.einsum("abde,afde->adbf", q, q))
    return tf.reduce_mean(tf.matmul(tf.reduce_mean(weights, 1), x), 1)


def main(folder: Path) -> None:
    for name, kinds in (("apart", APART), ("mixed", MIXED)):
        module = tf.Module()
        module.held = HELD
        signatures = {}
        for key, (function, specs) in kinds.items():
            given = {
                alias: tf.TensorSpec(s.shape, s.dtype, name=alias) for alias, s in specs.items()
            }
            signatures[key] = tf.function(
                lambda _f=function, **x: {"y": _f(**x)}
            ).get_concrete_function(**given)
        tf.saved_model.save(module, str(folder / name / "1"), signatures=signatures)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
