"""Exports graphs whose kernels are touchy: ``export_fragile.py FOLDER``, in a child process, as
export.py is.

``strict`` says in its signatures what it takes; ``vague`` holds the same graphs and promises
nothing, not even a rank.
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

RNG = np.random.default_rng(5)


def held(*shape: int) -> Any:
    return tf.Variable(RNG.normal(size=shape).astype(np.float32))


HELD = tf.Module()
HELD.dense, HELD.table, HELD.square = held(6, 3), held(10, 4), held(4, 4)
HELD.line, HELD.plane, HELD.space = held(3, 2, 4), held(3, 3, 2, 4), held(2, 2, 2, 1, 2)
HELD.depth, HELD.back = held(3, 3, 2, 1), held(3, 3, 3, 2)

Kind = tuple[Callable[[Any], Any], tuple[int | None, ...], Any]

KINDS: Mapping[str, Kind] = {
    "conv1d": (
        lambda x: tf.nn.relu(tf.nn.conv1d(x, HELD.line, 1, "SAME") + 1.0),
        (None, None, 2),
        tf.float32,
    ),
    "conv2d": (
        lambda x: tf.nn.relu(tf.nn.conv2d(x, HELD.plane, 1, "SAME") + 1.0),
        (None, 8, 8, 2),
        tf.float32,
    ),
    "conv2d_free": (
        lambda x: tf.nn.conv2d(x, HELD.plane, 1, "VALID"),
        (None, None, None, 2),
        tf.float32,
    ),
    "conv3d": (
        lambda x: tf.nn.conv3d(x, HELD.space, [1] * 5, "SAME"),
        (None, 4, 4, 4, 1),
        tf.float32,
    ),
    "transposed": (
        lambda x: tf.nn.conv2d_transpose(x, HELD.back, [tf.shape(x)[0], 8, 8, 3], 2, "SAME"),
        (None, 4, 4, 2),
        tf.float32,
    ),
    "depthwise": (
        lambda x: tf.nn.depthwise_conv2d(x, HELD.depth, [1] * 4, "SAME"),
        (None, 8, 8, 2),
        tf.float32,
    ),
    "max_pool": (lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"), (None, 8, 8, 2), tf.float32),
    "max_pool3d": (lambda x: tf.nn.max_pool3d(x, 2, 2, "VALID"), (None, 4, 4, 4, 1), tf.float32),
    "avg_pool": (lambda x: tf.nn.avg_pool2d(x, 2, 2, "SAME"), (None, 8, 8, 2), tf.float32),
    "batch_matmul": (lambda x: tf.matmul(x, x, transpose_b=True), (None, 3, 4), tf.float32),
    "einsum": (lambda x: tf.einsum("abc,cd->abd", x, HELD.square), (None, 3, 4), tf.float32),
    "dense": (lambda x: tf.nn.softmax(x @ HELD.dense), (None, 6), tf.float32),
    "embedding": (lambda i: tf.reduce_mean(tf.gather(HELD.table, i), 1), (None, 5), tf.int32),
    "embedding_sparse": (lambda i: tf.nn.embedding_lookup(HELD.table, i), (None,), tf.int64),
    "batch_norm": (
        lambda x: tf.compat.v1.nn.fused_batch_norm(
            x, tf.ones(2), tf.zeros(2), mean=tf.zeros(2), variance=tf.ones(2), is_training=False
        )[0],
        (None, 4, 4, 2),
        tf.float32,
    ),
    "instance_norm": (
        lambda x: (
            (x - tf.reduce_mean(x, [1, 2], True))
            * tf.math.rsqrt(tf.math.reduce_variance(x, [1, 2], True) + 1)
        ),
        (None, 4, 4, 2),
        tf.float32,
    ),
    "lrn": (lambda x: tf.nn.lrn(x), (None, 4, 4, 2), tf.float32),
    "resized": (lambda x: tf.image.resize(x, [5, 5]), (None, 4, 4, 2), tf.float32),
    "asserting": (lambda x: _asserting(x), (None, 3), tf.float32),
    "top": (lambda x: tf.math.top_k(x, 2).values, (None, 6), tf.float32),
    "hot": (lambda i: tf.one_hot(i, 4), (None,), tf.int32),
    "repeated": (lambda i: tf.repeat(i, i), (None,), tf.int32),
    "filled": (lambda i: tf.fill(i, 1.0), (None,), tf.int32),
    "words": (lambda s: tf.strings.split(s).to_tensor(""), (None,), tf.string),
    "numbers": (lambda s: tf.strings.to_number(s), (None,), tf.string),
    "picture": (lambda s: _picture(s), (), tf.string),
    "examples": (
        lambda s: tf.io.parse_example(s, {"x": tf.io.FixedLenFeature([2], tf.float32)})["x"],
        (None,),
        tf.string,
    ),
}


def _asserting(x: Any) -> Any:
    with tf.control_dependencies(
        [tf.debugging.assert_all_finite(x, "finite"), tf.debugging.assert_positive(x)]
    ):
        return tf.identity(x)


def _picture(data: Any) -> Any:
    """As large as the file says, into a convolution."""
    image = tf.cast(tf.io.decode_image(data, 2 + 1, expand_animations=False), tf.float32)
    image.set_shape([None, None, 3])
    return tf.nn.conv2d(image[None, :, :, :2], HELD.plane, 1, "VALID")


def main(folder: Path) -> None:
    for name in ("strict", "vague"):
        module = tf.Module()
        module.held = HELD
        signatures = {}
        for key, (function, shape, dtype) in KINDS.items():
            spec = tf.TensorSpec(shape if name == "strict" else None, dtype, name="x")
            try:
                answer = tf.function(lambda x, _f=function: {"y": _f(x)})
                signatures[key] = answer.get_concrete_function(x=spec)
            except (ValueError, TypeError):
                if name == "strict":
                    raise  # some cannot be traced without a rank: nobody can have exported them
        tf.saved_model.save(module, str(folder / name / "1"), signatures=signatures)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
