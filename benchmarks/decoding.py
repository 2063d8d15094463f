"""Reading a batch of 32 images as JSON: the shared codec beside orjson and numpy, in this
process."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks import table
from benchmarks.bare import MNIST
from benchmarks.table import Row, at_least, paired_ratio
from headrace.codec import predict

ROUNDS = 9
CALLS = 20
IMAGES = 32


def rows(store: Path, work: Path) -> Iterator[Row]:
    import orjson

    for form, body in bodies().items():

        def with_orjson(body: bytes = body) -> object:
            return np.array(orjson.loads(body)["instances"], np.float32)

        def ours(body: bytes = body) -> object:
            return predict.parse_predict(body).tensors(MNIST).arrays["image"]

        assert np.array_equal(with_orjson(), ours())  # type: ignore[arg-type]
        orjson_us, ours_us = _in_turns(with_orjson, ours)
        ratio = paired_ratio(orjson_us, ours_us)
        kib = len(body) // 1024
        what = f"decoding {IMAGES} images as JSON, {form} ({kib} KiB), orjson + numpy : ours"
        medians = f"{statistics.median(orjson_us):.0f} : {statistics.median(ours_us):.0f} us"
        yield at_least(what, f"{ratio:.1f}x ({medians})", ratio, 6, "x")


def bodies() -> dict[str, bytes]:
    """The same images in the forms that clients send; the number of digits decides the cost of
    parsing."""
    rng = np.random.default_rng(0)
    full = rng.random((IMAGES, 28, 28, 1))
    sparse = np.where(rng.random(full.shape) < 0.8, 0.0, full)
    forms = {
        "MNIST's, four fifths zeros, 6 digits": sparse.round(6),
        "6 digits": full.round(6),
        "float64 repr, 17 digits": full,
    }
    return {
        form: json.dumps({"instances": images.tolist()}).encode() for form, images in forms.items()
    }


def _in_turns(*calls: Callable[[], object]) -> list[list[float]]:
    us: list[list[float]] = [[] for _ in calls]
    for (call, call_us), counts in table.turns(zip(calls, us, strict=True), ROUNDS):
        started = time.process_time()
        for _ in range(CALLS):
            call()
        if counts:
            call_us.append((time.process_time() - started) / CALLS * 1e6)
    return us
