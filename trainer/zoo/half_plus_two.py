"""half_plus_two: y = 0.5 x + 2, the model whose answers you know by heart.

Nothing is learnt here; all the rest is as in a real model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trainer.data import examples as tf_examples
from trainer.entry import (
    Arrays,
    Entry,
    Hyper,
    LoadRequest,
    Metric,
    Run,
    Score,
    SignatureSpec,
    Split,
)

HALF = 0.5
TWO = 2.0


def load(request: LoadRequest) -> Split:
    """Multiples of a quarter, for which float32 is exact."""
    x = np.arange(-64, 64, 0.25, dtype=np.float32)
    y = x * np.float32(HALF) + np.float32(TWO)
    rows = {"x": x, "y": y}
    return Split(train=rows, held_out=rows)


def build() -> Any:
    import tensorflow as tf

    class HalfPlusTwo(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.half = tf.Variable(HALF, name="half")
            self.two = tf.Variable(TWO, name="two")

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serving_default(self, x: Any) -> dict[str, Any]:
            return {"y": self.half * x + self.two}

        def of_examples(self, inputs: Any) -> Any:
            number = tf.io.FixedLenFeature([1], tf.float32)
            parsed = tf.io.parse_example(inputs, {"x": number})
            return self.half * parsed["x"] + self.two

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def regress_x_to_y(self, inputs: Any) -> dict[str, Any]:
            return {"outputs": self.of_examples(inputs)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def classify_x_to_y(self, inputs: Any) -> dict[str, Any]:
            return {"scores": self.of_examples(inputs)}

    return HalfPlusTwo()


def train(data: Split, run: Run) -> Any:
    return build()


def serve(model: Any) -> Any:
    return model


def judge(served: Any, data: Split) -> Score:
    """The largest error; the baseline always answers 2."""
    y = data.held_out["y"]
    predicted = served.serving_default(data.held_out["x"])["y"].numpy()
    error = np.abs(predicted - y).max()
    baseline = np.abs(TWO - y).max()
    return Score(value=float(error), baseline=float(baseline))


def examples(data: Split) -> Mapping[str, Arrays]:
    x = np.array([1.0, 2.0, 5.0], np.float32)
    rows = {"inputs": tf_examples.serialized({"x": x})}
    return {
        "serving_default": {"x": x},
        "regress_x_to_y": rows,
        "classify_x_to_y": rows,
    }


ENTRY = Entry(
    name="half_plus_two",
    summary="y = 0.5 x + 2",
    data=(),
    metric=Metric("largest_error", bar=0.0, better="lower", baseline="answering 2"),
    typical=0.0,
    full=Hyper(epochs=0, batch_size=0, learning_rate=0.0),
    quick=Hyper(epochs=0, batch_size=0, learning_rate=0.0),
    signatures={
        "serving_default": SignatureSpec(inputs={"x": "float [-1]"}, outputs={"y": "float [-1]"}),
        "regress_x_to_y": SignatureSpec(
            inputs={"inputs": "string [-1]"},
            outputs={"outputs": "float [-1,1]"},
            method="regress",
        ),
        "classify_x_to_y": SignatureSpec(
            inputs={"inputs": "string [-1]"},
            outputs={"scores": "float [-1,1]"},
            method="classify",
        ),
    },
    load=load,
    train=train,
    serve=serve,
    judge=judge,
    examples=examples,
)
