"""linear_model: a car's miles per gallon from its horsepower and weight, by gradient tape.

The simplest model that still has to learn: two weights and a bias. The means and spreads of the
training rows are part of the SavedModel, so callers send plain horsepower and pounds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from trainer.data import examples as tf_examples
from trainer.data import pipeline, split
from trainer.data.archive import Archive
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

CARS = Archive(
    project="vega_datasets",
    version="0.9.0",
    file="vega_datasets-0.9.0-py3-none-any.whl",
    sha256="3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d",
    member="vega_datasets/_data/cars.json",
    licence="MIT (the package); Auto MPG, UCI Machine Learning Repository, CC BY 4.0 (the data)",
)
FIELDS = {
    "horsepower": "Horsepower",
    "weight": "Weight_in_lbs",
    "mpg": "Miles_per_Gallon",
}


def load(request: LoadRequest) -> Split:
    """The 392 cars of which all three values are known."""
    cars = []
    for car in json.loads(CARS.read(request.cache)):
        if all(car[field] is not None for field in FIELDS.values()):
            cars.append(car)
    columns = {}
    for name, field in FIELDS.items():
        columns[name] = np.array([car[field] for car in cars], np.float32)
    return replace(split.by_content(columns), data=(CARS,))


def build(x: np.ndarray) -> Any:
    """``x``: the training rows, [n, 2], which give the scale of the inputs."""
    import tensorflow as tf

    class LinearModel(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean = tf.constant(x.mean(axis=0))
            self.spread = tf.constant(x.std(axis=0))
            self.weights = tf.Variable(tf.random.normal([2, 1]), name="weights")
            self.bias = tf.Variable(tf.zeros([1]), name="bias")

        def __call__(self, x: Any) -> Any:
            scaled = (x - self.mean) / self.spread
            return tf.squeeze(tf.linalg.matmul(scaled, self.weights) + self.bias, axis=1)

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def serving_default(self, x: Any) -> dict[str, Any]:
            return {"mpg": self(x)}

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.float32, name="horsepower"),
                tf.TensorSpec([None], tf.float32, name="weight"),
            ]
        )
        def columns(self, horsepower: Any, weight: Any) -> dict[str, Any]:
            return {"mpg": self(tf.stack([horsepower, weight], axis=1))}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def regress(self, inputs: Any) -> dict[str, Any]:
            number = tf.io.FixedLenFeature([], tf.float32)
            parsed = tf.io.parse_example(inputs, {"horsepower": number, "weight": number})
            return {"outputs": self.columns(**parsed)["mpg"]}

    return LinearModel()


def train(data: Split, run: Run) -> Any:
    import tensorflow as tf

    x = matrix(data.train)
    model = build(x)
    optimizer = tf.keras.optimizers.Adam(run.hyper.learning_rate)

    @tf.function(input_signature=[tf.TensorSpec([None, 2]), tf.TensorSpec([None])])
    def step(x: Any, mpg: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x) - mpg))
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    optimizer.build(model.trainable_variables)
    rows = {"x": x, "mpg": data.train["mpg"]}
    batches = None
    for epoch in run.epochs(model, optimizer):
        if batches is None:
            # A resumed training begins at a later epoch.
            batches = iter(pipeline.batches(rows, run, first=epoch))
        losses = []
        for _ in range(pipeline.steps(rows, run)):
            batch_x, batch_mpg = next(batches)
            losses.append(step(batch_x, batch_mpg))
        run.report(loss=float(np.mean(losses)))
    return model


def serve(model: Any) -> Any:
    return model


def judge(served: Any, data: Split) -> Score:
    """Mean absolute error; the baseline always answers the mean of the training rows."""
    mpg = data.held_out["mpg"]
    predicted = served.serving_default(matrix(data.held_out))["mpg"].numpy()
    error = np.abs(predicted - mpg).mean()
    mean = data.train["mpg"].mean()
    baseline = np.abs(mean - mpg).mean()
    return Score(value=float(error), baseline=float(baseline))


def examples(data: Split) -> Mapping[str, Arrays]:
    columns = {
        "horsepower": data.held_out["horsepower"][:3],
        "weight": data.held_out["weight"][:3],
    }
    return {
        "serving_default": {"x": matrix(columns)},
        "columns": columns,
        "regress": {"inputs": tf_examples.serialized(columns)},
    }


def matrix(rows: Arrays) -> np.ndarray:
    return np.stack([rows["horsepower"], rows["weight"]], axis=1)


ENTRY = Entry(
    name="linear_model",
    summary="horsepower, weight -> miles per gallon, by gradient tape",
    data=(CARS,),
    metric=Metric(
        "mae_mpg",
        bar=3.6,
        better="lower",
        baseline="predicting the mean",
        margin=0.4,
        max_regression=0.2,
    ),
    typical=3.52,
    full=Hyper(epochs=100, batch_size=32, learning_rate=0.1),
    quick=Hyper(epochs=40, batch_size=32, learning_rate=0.3),
    signatures={
        "serving_default": SignatureSpec(
            inputs={"x": "float [-1,2]"}, outputs={"mpg": "float [-1]"}
        ),
        "columns": SignatureSpec(
            inputs={"horsepower": "float [-1]", "weight": "float [-1]"},
            outputs={"mpg": "float [-1]"},
        ),
        "regress": SignatureSpec(
            inputs={"inputs": "string [-1]"}, outputs={"outputs": "float [-1]"}, method="regress"
        ),
    },
    load=load,
    train=train,
    serve=serve,
    judge=judge,
    examples=examples,
)
