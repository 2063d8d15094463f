"""What is kept of a training: killed with SIGKILL and asked for again it ends as if nothing had
happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headrace.store import card
from tests.forks import ForkServer
from tests.unit.warm import WarmTrainer, environment
from trainer.data import pictures
from trainer.runs import plots, run_folder
from trainer.runs.run import CHECKPOINT, EarlyStopping
from trainer.runs.score import Confusion

ROOT = Path(__file__).resolve().parents[2]
# Dies when the third epoch is trained and nothing of it is kept yet.
KILLED = """
import os, signal, sys
from trainer import cli
from trainer.runs import run
finish = run.Run.finish
def dying(self, figures):
    if len(self.history) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    finish(self, figures)
run.Run.finish = dying
sys.exit(cli.main(sys.argv[1:]))
"""


def killed(server: ForkServer, place: Path, *words: str) -> None:
    done = server.run(KILLED, *words, environ={**os.environ, **environment(place)})
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("linear_model", id="own loop"),
        pytest.param("mnist_mlp", id="fit"),
        pytest.param("mnist_cnn", id="own loop from files", marks=pytest.mark.long),
        pytest.param("titanic", id="features", marks=pytest.mark.long),
        pytest.param("imdb_cnn", id="text", marks=pytest.mark.long),
    ],
)
def test_a_killed_training_is_resumed_and_ends_as_it_would_have(
    model: str, tmp_path: Path, warm: WarmTrainer, with_tensorflow: ForkServer
) -> None:
    options = ["train", model, "--quick", "--epochs", "4", "--seed", "7"]
    assert warm.call(tmp_path / "whole", *options).returncode == 0

    killed(with_tensorflow, tmp_path / "killed", *options)
    assert not list((tmp_path / "killed" / "models").glob("*/1"))
    done = warm.call(tmp_path / "killed", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{model}: resumed after epoch 2/4" in done.stderr

    whole, resumed = (tmp_path / side / "models" / model / "1" for side in ("whole", "killed"))
    figures = [
        json.loads(line)
        for line in (resumed / "assets.extra/metrics.jsonl").read_text().splitlines()
    ]
    assert [f["epoch"] for f in figures] == [1, 2, 3, 4]
    for file in (
        "assets.extra/metrics.jsonl",
        "assets.extra/golden.json",
        "variables/variables.data-00000-of-00001",
    ):
        assert (whole / file).read_bytes() == (resumed / file).read_bytes(), file
    assert card.read(whole)["figures"] == card.read(resumed)["figures"]
    assert not list(tmp_path.glob(f"*/runs/*/*/{CHECKPOINT}"))  # they served their purpose
    (kept,) = (tmp_path / "killed" / "runs" / model).iterdir()
    assert list(kept.glob("tensorboard/train/events*")) and (kept / "curves.png").exists()


def test_early_stopping_stops_after_patience_and_knows_the_best() -> None:
    early_stopping = EarlyStopping("val_auc", "higher", patience=2)
    history = [{"val_auc": value} for value in (0.5, 0.7, 0.7, 0.6)]
    assert early_stopping.best(history) == 1
    assert EarlyStopping("val_auc", "lower", patience=2).best(history) == 0
    assert early_stopping.best([{"val_auc": float("nan")}, {"val_auc": 0.1}]) == 1


def test_only_a_training_that_was_asked_for_the_same_is_resumed(tmp_path: Path) -> None:
    with run_folder.resume_or_start(tmp_path, "a") as first:
        (first.path / CHECKPOINT).touch()
        with run_folder.resume_or_start(tmp_path, "a") as at_once:
            assert at_once.path != first.path  # that one is at work
    with run_folder.resume_or_start(tmp_path, "b") as other:
        assert other.path != first.path
    with run_folder.resume_or_start(tmp_path, "a", fresh=True) as fresh:
        assert fresh.path != first.path
    with run_folder.resume_or_start(tmp_path, "a") as again:
        assert again.path == first.path
        again.remove_checkpoint()
    with run_folder.resume_or_start(tmp_path, "a") as last:
        assert last.path != first.path


def test_curves_and_confusion_are_pictures(tmp_path: Path) -> None:
    history = [{"loss": 1.0 / n, "val_loss": 1.2 / n, "auc": 0.5} for n in (1, 2, 3)]
    plots.curves(history, tmp_path / "curves.png")
    plots.curves(history[:1], tmp_path / "one.png")
    plots.curves([{"loss": float("nan")}], tmp_path / "nan.png")
    plots.curves([], tmp_path / "none.png")
    plots.confusion(
        Confusion(("no", "yes"), np.array([[5, 0], [0, 0]])), tmp_path / "confusion.png"
    )
    assert not (tmp_path / "none.png").exists()
    for name in ("curves", "one", "nan", "confusion"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(1 << 16) or ()) > 3, name
    with Image.open(tmp_path / "curves.png") as curves, Image.open(tmp_path / "nan.png") as nan:
        assert curves.size[0] == 2 * nan.size[0]


def test_pictures_become_files_once_and_come_back(tmp_path: Path) -> None:
    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    paths = pictures.unpack(images, tmp_path, name="some")
    written = [Path(path).stat().st_mtime_ns for path in paths]
    assert list(pictures.unpack(images, tmp_path, name="some")) == list(paths)
    assert [Path(path).stat().st_mtime_ns for path in paths] == written
    for path, image in zip(paths, images, strict=True):
        with Image.open(path) as found:
            assert (np.asarray(found) == image).all()
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [Path(paths[0]).parents[1].name]


PIPELINE = """
import warnings
warnings.simplefilter("error", UserWarning)
import numpy as np
from trainer.data import pipeline
from trainer.runs import runtime
from trainer.runs.progress import Progress
from trainer.runs.run import Hyper, Run
runtime.prepare(0)
run = Run(Hyper(3, 4, 0.1), seed=5, progress=Progress("p", epochs=3))
rows = {"a": np.arange(10), "b": np.arange(10) * 2}
def epochs(**how):
    batches = pipeline.batches(rows, run, **how)
    read = [[np.asarray(part).tolist() for part in batch] for batch in batches]
    steps = pipeline.steps(rows, run)
    return [read[at:at + steps] for at in range(0, len(read), steps)]
whole = epochs(first=0)
assert len(whole) == 3 and [len(batch[0]) for batch in whole[0]] == [4, 4, 2]
assert whole[0] != whole[1]
assert all(sorted(sum((batch[0] for batch in epoch), [])) == list(range(10)) for epoch in whole)
assert all(batch[1] == [2 * a for a in batch[0]] for epoch in whole for batch in epoch)
assert epochs(first=1) == whole[1:] and epochs(first=3) == []
assert epochs(first=0, map_row=lambda a, b: (a, b)) == whole
"""


def test_a_pipeline_starts_at_any_epoch_and_an_epoch_has_each_row_once(
    with_tensorflow: ForkServer,
) -> None:
    done = with_tensorflow.run(PIPELINE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


# Its own way to run without TensorFlow, whose import takes seconds and is not what is asked about.
TENSORBOARD = """
import sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")
sys.argv = ["tensorboard", "--version"]
from tensorboard import main
main.run_main()
"""


def test_tensorboard_of_the_pinned_sets_starts() -> None:
    """It needs a module that newer versions of what it depends on leave out."""
    done = subprocess.run([sys.executable, "-c", TENSORBOARD], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
