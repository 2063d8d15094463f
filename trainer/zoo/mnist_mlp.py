"""mnist_mlp: which digit is in a 28 x 28 picture; a dense net, Keras' Sequential trained by fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from trainer.data import digits, pipeline
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
from trainer.runs.keras_callback import keras_callback
from trainer.runs.run import EarlyStopping


def load(request: LoadRequest) -> Split:
    rows = digits.small(request)
    return replace(
        rows,
        train=_scaled(rows.train),
        validation=_scaled(rows.validation),
        held_out=_scaled(rows.held_out),
    )


def _scaled(rows: Arrays) -> Arrays:
    return {"image": digits.scaled(rows["image"]), "digit": rows["digit"]}


def build() -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            tf.keras.Input([28, 28, 1]),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.3),
            # The outputs are logits.
            layers.Dense(10),
        ]
    )


def train(data: Split, run: Run) -> Any:
    import tensorflow as tf

    model = build()
    steps = pipeline.steps(data.train, run)
    learning_rate = tf.keras.optimizers.schedules.CosineDecay(
        run.hyper.learning_rate,
        steps * run.hyper.epochs,
    )
    model.compile(
        optimizer=tf.keras.optimizers.Adam(learning_rate),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    # A resumed training begins after its last finished epoch.
    early_stopping = EarlyStopping("val_loss", "lower", patience=6)
    first = run.begin(model, model.optimizer, early_stopping=early_stopping)
    model.fit(
        pipeline.batches(data.train, run, first=first),
        initial_epoch=first,
        epochs=run.hyper.epochs,
        steps_per_epoch=steps,
        validation_data=pipeline.validation_batches(*data.validation.values()),
        callbacks=[keras_callback(run, steps=steps)],
        # The pipeline shuffles.
        shuffle=False,
        verbose=0,
    )
    return model


def serve(model: Any) -> Any:
    import tensorflow as tf

    class Served(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        @tf.function(input_signature=[tf.TensorSpec([None, 28, 28, 1], tf.float32, name="image")])
        def serving_default(self, image: Any) -> dict[str, Any]:
            return {"probabilities": tf.nn.softmax(self.model(image, training=False))}

    return Served()


def judge(served: Any, data: Split) -> Score:
    answer = served.serving_default(data.held_out["image"])
    return digits.judge(answer["probabilities"].numpy(), data)


def examples(data: Split) -> Mapping[str, Arrays]:
    return {"serving_default": {"image": np.array(data.held_out["image"][:2])}}


ENTRY = Entry(
    name="mnist_mlp",
    summary="a 28 x 28 grey picture in 0..1 -> the probability of each digit, by a dense net",
    data=(digits.MNIST_5K,),
    metric=Metric(
        "accuracy", bar=0.93, better="higher", baseline="the commonest digit", max_regression=0.01
    ),
    typical=0.957,
    full=Hyper(epochs=30, batch_size=32, learning_rate=1e-3),
    quick=Hyper(epochs=6, batch_size=32, learning_rate=1e-3),
    signatures={
        "serving_default": SignatureSpec(
            inputs={"image": "float [-1,28,28,1]"}, outputs={"probabilities": "float [-1,10]"}
        )
    },
    load=load,
    train=train,
    serve=serve,
    judge=judge,
    examples=examples,
)
