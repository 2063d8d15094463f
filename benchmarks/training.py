"""Training: what the pipelines cost beside the step, and a loop of one's own beside fit.

Runs in a process of its own (`python -m benchmarks.training`), for TensorFlow's sake, and prints
its rows as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import table
from benchmarks.processes import ROOT
from benchmarks.table import Row

ROUNDS = 5
STEPS = 80
EPOCHS = 2


def rows(store: Path, work: Path) -> Iterator[Row]:
    """For `python -m benchmarks`."""
    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-m", "benchmarks.training"]
    out = subprocess.run(
        command, cwd=ROOT, env=environ, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    for line in out.splitlines():
        yield Row(**json.loads(line))


def main() -> int:
    from trainer import settings, zoo
    from trainer.entry import LoadRequest
    from trainer.runs import runtime

    request = LoadRequest(settings.from_environment(os.environ).archives, quick=True)
    runtime.prepare(0)
    for name, files in (("mnist_cnn", "PNG files"), ("imdb_cnn", "CSV")):
        entry = zoo.find(name)
        data = entry.load(request)
        for row in _pipeline(name, files, data, entry.full):
            _print(row)
    _print(_loop(zoo.find("mnist_cnn").load(request)))
    return 0


def _print(row: Row) -> None:
    print(json.dumps(asdict(row)), flush=True)


def _pipeline(name: str, files: str, data: Any, hyper: Any) -> Iterator[Row]:
    """Steps fed by the real pipeline and by tensors in memory, in turns; then the pipeline with
    nobody to feed."""
    stream, step = {"mnist_cnn": _digits, "imdb_cnn": _reviews}[name](
        data, replace(hyper, epochs=1000)
    )
    real = iter(stream)
    kept = [next(real) for _ in range(STEPS)]
    size = len(kept[0][1])
    in_memory, from_files = _in_turns(
        lambda: [step(*batch) for batch in kept],
        lambda: [step(*next(real)) for _ in range(STEPS)],
        per=STEPS,
    )
    cpu = []
    for _ in range(ROUNDS):
        before = time.process_time()
        for _ in range(STEPS):
            next(real)
        cpu.append((time.process_time() - before) * 1e6 / (STEPS * size))
    ratio = table.paired_ratio(from_files, in_memory)
    yield Row(
        f"{name}, a step of {size} fed from {files} : from tensors in memory",
        f"{ratio:.2f}x ({median(from_files):.1f} : {median(in_memory):.1f} ms)",
        "<= 1.5x",
        ratio <= 1.5,
    )
    yield Row(f"{name}, pipeline from {files}, CPU an example", f"{median(cpu):.0f} us")


def _digits(data: Any, hyper: Any) -> tuple[Any, Callable[..., Any]]:
    import tensorflow as tf

    from trainer.data import pipeline
    from trainer.zoo import mnist_cnn

    model, optimizer = mnist_cnn.build(), tf.keras.optimizers.Adam(hyper.learning_rate)
    optimizer.build(model.trainable_variables)
    batches = pipeline.batches(
        data.train, _run(hyper), first=0, map_row=mnist_cnn.read, map_batch=mnist_cnn.scaled
    )
    return batches, mnist_cnn.stepper(model, optimizer)


def _reviews(data: Any, hyper: Any) -> tuple[Any, Callable[..., Any]]:
    import tensorflow as tf

    from trainer.zoo import imdb_cnn

    hyper = replace(hyper, epochs=4)  # its pipeline is put together epoch by epoch
    model = imdb_cnn.build()
    model.compile(
        optimizer=tf.keras.optimizers.Adam(hyper.learning_rate), loss="binary_crossentropy"
    )
    batches = imdb_cnn.batches(data, imdb_cnn.vectorizer(data.train["text"]), _run(hyper), first=0)
    return batches, model.train_on_batch


def _loop(data: Any) -> Row:
    """The same epochs of mnist_cnn, from tensors in memory; the first ones, which trace, are not
    counted."""
    import tensorflow as tf

    from trainer.data import pipeline
    from trainer.entry import Hyper
    from trainer.zoo import mnist_cnn

    hyper = Hyper(epochs=1000, batch_size=32, learning_rate=1e-3)
    decoded = [
        mnist_cnn.read(path, digit)[0].numpy()
        for path, digit in zip(*data.train.values(), strict=True)
    ]
    rows = {"image": np.stack(decoded).astype(np.float32) / 255, "digit": data.train["digit"]}
    steps = pipeline.steps(rows, _run(hyper))
    own, fitted = mnist_cnn.build(), mnist_cnn.build()
    optimizer = tf.keras.optimizers.Adam(hyper.learning_rate)
    optimizer.build(own.trainable_variables)
    step = mnist_cnn.stepper(own, optimizer)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fitted.compile(optimizer=tf.keras.optimizers.Adam(hyper.learning_rate), loss=loss)
    first, second = (pipeline.batches(rows, _run(hyper), first=0) for _ in range(2))
    batches = iter(first)

    def by_loop() -> None:
        for _ in range(EPOCHS):
            float(np.mean([step(*next(batches)) for _ in range(steps)]))

    def by_fit() -> None:
        fitted.fit(second, epochs=EPOCHS, steps_per_epoch=steps, shuffle=False, verbose=0)

    loop_ms, fit_ms = _in_turns(by_loop, by_fit, per=EPOCHS)
    ratio = table.paired_ratio(loop_ms, fit_ms)
    return Row(
        "mnist_cnn, the same epochs by its own loop : by fit",
        f"{ratio:.2f}x ({median(loop_ms):.0f} : {median(fit_ms):.0f} ms an epoch)",
        "<= 1.3x",
        ratio <= 1.3,
    )


def _run(hyper: Any) -> Any:
    from trainer.runs.progress import Progress
    from trainer.runs.run import Run

    return Run(hyper, seed=0, progress=Progress("benchmark", epochs=hyper.epochs))


def _in_turns(*works: Callable[[], Any], per: int) -> list[list[float]]:
    """Milliseconds of each, divided by ``per``. The first round, which traces, does not count."""
    took: list[list[float]] = [[] for _ in works]
    for (work, mine), counts in table.turns(zip(works, took, strict=True), ROUNDS):
        began = time.perf_counter()
        work()
        if counts:
            mine.append((time.perf_counter() - began) * 1000 / per)
    return took


if __name__ == "__main__":
    sys.exit(main())
