"""mnist_cnn: which digit is in a 28 x 28 picture; a small convolutional net with its own loop.

It learns from PNG files, and takes pixels in 0..1, bytes, and PNG files.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from trainer.data import digits, pictures, pipeline
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


def load(request: LoadRequest) -> Split:
    """Files to learn from; pixels to validate and to be judged by."""
    rows = digits.best(request)
    name = "mnist-5k"
    if digits.MNIST in rows.data:
        name = "mnist"
    paths = pictures.unpack(rows.train["image"], request.cache, name=name)
    return replace(
        rows,
        train={"path": paths, "digit": rows.train["digit"]},
        validation=_pixels(rows.validation),
        held_out=_pixels(rows.held_out),
    )


def _pixels(rows: Arrays) -> Arrays:
    return {"image": digits.scaled(rows["image"]), "digit": rows["digit"]}


def random_shift(*, seed: int) -> Any:
    """A layer that moves each training batch by up to two pixels.

    It is worth 0.4 points on validation rows, over three seeds.
    """
    import tensorflow as tf

    class RandomShift(tf.keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            # Its state is a variable, so checkpoints contain it.
            self.draw = tf.keras.random.SeedGenerator(seed)

        def call(self, image: Any, training: bool = False) -> Any:
            if not training:
                return image
            padded = tf.pad(image, [[0, 0], [2, 2], [2, 2], [0, 0]])
            draw = tf.cast(self.draw.next(), tf.int32)
            offset = tf.random.stateless_uniform([2], draw, 0, 5, tf.int32)
            moved = tf.slice(padded, [0, offset[0], offset[1], 0], tf.shape(image))
            return tf.ensure_shape(moved, image.shape)

    return RandomShift()


def build(*, seed: int = 0) -> Any:
    import tensorflow as tf

    layers = tf.keras.layers

    class ConvNet(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.moved = random_shift(seed=seed)
            self.dropped = layers.Dropout(0.4)
            self.stages = [
                layers.Conv2D(16, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(32, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Flatten(),
            ]
            self.last = layers.Dense(10)

        def call(self, image: Any, training: bool = False) -> Any:
            x = self.moved(image, training=training)
            for stage in self.stages:
                x = stage(x)
            x = self.dropped(x, training=training)
            # The outputs are logits.
            return self.last(x)

    model = ConvNet()
    # The first call creates the weights.
    model(tf.zeros([1, 28, 28, 1]))
    return model


def read(path: Any, digit: Any) -> tuple[Any, Any]:
    """One row from its file, in a thread of tf.data."""
    import tensorflow as tf

    content = tf.io.read_file(path)
    picture = tf.io.decode_png(content, channels=1)
    return tf.ensure_shape(picture, [28, 28, 1]), digit


def scaled(pictures: Any, digits: Any) -> tuple[Any, Any]:
    """A batch as the step takes it."""
    import tensorflow as tf

    return tf.cast(pictures, tf.float32) / 255.0, digits


def stepper(model: Any, optimizer: Any) -> Any:
    """One step of gradient descent as a graph; it returns the loss of the batch."""
    import tensorflow as tf

    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 28, 28, 1]),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def step(images: Any, digits: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = loss_of(digits, logits)
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return step


def train(data: Split, run: Run) -> Any:
    import tensorflow as tf

    model = build(seed=run.seed)
    steps = pipeline.steps(data.train, run)
    learning_rate = tf.keras.optimizers.schedules.CosineDecay(
        run.hyper.learning_rate,
        steps * run.hyper.epochs,
    )
    optimizer = tf.keras.optimizers.Adam(learning_rate)
    optimizer.build(model.trainable_variables)
    step = stepper(model, optimizer)
    batches = None
    for epoch in run.epochs(model, optimizer):
        if batches is None:
            # A resumed training begins at a later epoch.
            rows = pipeline.batches(
                data.train,
                run,
                first=epoch,
                map_row=read,
                map_batch=scaled,
            )
            batches = iter(rows)
        losses = []
        for done in range(1, steps + 1):
            images, digit = next(batches)
            losses.append(step(images, digit))
            run.progress.step(epoch + 1, done, steps)
        loss = float(np.mean(losses))
        run.report(loss=loss, **validate(model, data))
    return model


def validate(model: Any, data: Split) -> dict[str, float]:
    """The figures on the validation rows."""
    import tensorflow as tf

    images = data.validation["image"]
    digit = data.validation["digit"]
    parts = []
    for (batch,) in pipeline.validation_batches(images):
        parts.append(model(batch))
    logits = np.concatenate(parts)

    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    loss = loss_of(digit, logits)
    accuracy = (logits.argmax(axis=1) == digit).mean()
    return {"val_loss": float(loss), "val_accuracy": float(accuracy)}


def serve(model: Any) -> Any:
    import tensorflow as tf

    class Served(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def answer(self, image: Any) -> dict[str, Any]:
            logits = self.model(image, training=False)
            return {"probabilities": tf.nn.softmax(logits)}

        @tf.function(input_signature=[tf.TensorSpec([None, 28, 28, 1], tf.float32, name="image")])
        def serving_default(self, image: Any) -> dict[str, Any]:
            return self.answer(image)

        @tf.function(input_signature=[tf.TensorSpec([None, 28, 28, 1], tf.uint8, name="image")])
        def uint8(self, image: Any) -> dict[str, Any]:
            return self.answer(tf.cast(image, tf.float32) / 255.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def png(self, image_bytes: Any) -> dict[str, Any]:
            def decoded(one: Any) -> Any:
                picture = tf.io.decode_png(one, channels=1)
                resized = tf.image.resize(picture, [28, 28])
                return tf.ensure_shape(resized, [28, 28, 1])

            image = tf.TensorSpec([28, 28, 1], tf.float32)
            images = tf.map_fn(decoded, image_bytes, fn_output_signature=image)
            return self.answer(images / 255.0)

    return Served()


def judge(served: Any, data: Split) -> Score:
    images = data.held_out["image"]
    parts = []
    for start in range(0, len(images), 1000):
        answer = served.serving_default(images[start : start + 1000])
        parts.append(answer["probabilities"])
    return digits.judge(np.concatenate(parts), data)


def examples(data: Split) -> Mapping[str, Arrays]:
    image = np.array(data.held_out["image"][:2])
    grey = np.round(image * 255).astype(np.uint8)
    files = np.array([_png(picture[..., 0]) for picture in grey], dtype=object)
    return {
        "serving_default": {"image": image},
        "uint8": {"image": grey},
        "png": {"image_bytes": files},
    }


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


_PROBABILITIES = {"probabilities": "float [-1,10]"}

ENTRY = Entry(
    name="mnist_cnn",
    summary="a 28 x 28 grey picture in 0..1 -> the probability of each digit",
    data=(digits.MNIST_5K,),
    full_data=(digits.MNIST,),
    metric=Metric(
        "accuracy", bar=0.955, better="higher", baseline="the commonest digit", max_regression=0.01
    ),
    typical=0.992,
    full=Hyper(epochs=8, batch_size=32, learning_rate=2e-3),
    quick=Hyper(epochs=6, batch_size=32, learning_rate=3e-3),
    signatures={
        "serving_default": SignatureSpec(
            inputs={"image": "float [-1,28,28,1]"}, outputs=_PROBABILITIES
        ),
        "uint8": SignatureSpec(inputs={"image": "uint8 [-1,28,28,1]"}, outputs=_PROBABILITIES),
        "png": SignatureSpec(inputs={"image_bytes": "string [-1]"}, outputs=_PROBABILITIES),
    },
    load=load,
    train=train,
    serve=serve,
    judge=judge,
    examples=examples,
)
