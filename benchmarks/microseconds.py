"""Where the CPU microseconds of one REST call go, piece by piece: `python -m
benchmarks.microseconds MODEL_FOLDER`.

Each piece is measured twice: on its own, repeated in a row, and as what it adds right after a run
of the model. The second is what a server pays: a run leaves little of anybody else's code and data
in the processor's caches.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.floor import Session
from benchmarks.stack import IMAGE_PATH, image_body
from headrace.codec import answers, predict
from headrace.server.engines.tensorflow import TensorFlowEngine
from headrace.server.metrics import Metrics
from headrace.server.rest import routes

ROUNDS = 9
CALLS = 300


def main(folder: Path) -> None:
    body = image_body()
    session = Session(folder)
    model = TensorFlowEngine().load(folder)
    signature = model.signatures["serving_default"]
    ((alias, image),) = predict.parse_predict(body).tensors(signature).arrays.items()
    flat = np.ascontiguousarray(image.reshape(-1))
    outputs = tuple(signature.outputs)
    metrics = Metrics()
    answer = model.run(signature, {alias: image}, outputs, timeout_s=30)

    def count() -> None:
        metrics.request("mnist_cnn", "OK")
        metrics.answered("mnist_cnn", "predict", "REST", 0.0003)
        metrics.ran("mnist_cnn", "Predict", 0.0001)

    pieces: dict[str, Callable[[], Any]] = {
        "route": lambda: routes.find("POST", IMAGE_PATH.encode()),
        "JSON to array, shape proved": lambda: predict.parse_predict(body).tensors(signature),
        "array to answer": lambda: answers.predictions(answer, signature, row_format=True),
        "metrics": count,
    }
    run = _us(lambda: session.run(flat))
    engine = _us(lambda: model.run(signature, {alias: image}, outputs, timeout_s=30))
    print(f"{'one bare session run':30} {run:6.1f} us")
    print(f"{'the engine around it':30} {engine - run:6.1f} us")
    for name, piece in pieces.items():

        def both(piece: Callable[[], Any] = piece) -> None:
            piece()
            session.run(flat)

        print(f"{name:30} {_us(piece):6.1f} us in a row, {_us(both) - run:6.1f} us after a run")


def _us(call: Callable[[], Any]) -> float:
    us = []
    for _ in range(ROUNDS + 1):
        started = time.process_time()
        for _ in range(CALLS):
            call()
        us.append((time.process_time() - started) / CALLS * 1e6)
    # The first round warms up.
    return statistics.median(us[1:])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
