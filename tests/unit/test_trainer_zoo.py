"""Training, end to end and short: models that take a second, in a child process, since TensorFlow
comes with them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.protocol import messages
from headrace.server.engines.tensorflow import TensorFlowEngine
from headrace.server.lifecycle.warmup import FILE, WarmingEngine
from headrace.server.metrics import Metrics
from headrace.store import card, folders, golden, records
from tests.unit.warm import WarmTrainer


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, warm: WarmTrainer
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    place = tmp_path_factory.mktemp("trained")
    done = warm.call(place, "train", "half_plus_two", "linear_model", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "models", done


def test_two_models_are_published_and_live(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    models, done = trained
    for name in ("half_plus_two", "linear_model"):
        assert folders.versions(models / name) == (1,)
        assert folders.is_complete(models / name / "1")
        assert f"{name} version 1 published in {models / name / '1'}" in done.stdout
        assert f'"{name}"' in (models / "multimodel.config").read_text()
    assert '"mnist_cnn"' not in (models / "multimodel.config").read_text()


def test_a_log_stays_readable(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = trained
    assert "\r" not in done.stderr and "\x1b" not in done.stderr
    said = [
        line for line in done.stderr.splitlines() if not line.startswith("linear_model: epoch ")
    ]
    assert said == []
    assert done.stderr.splitlines()[-1].startswith("linear_model: epoch 40/40, loss ")


def test_half_plus_two_knows_its_answers(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    request, regress, classify = golden.read(trained[0] / "half_plus_two" / "1")
    assert (regress.outputs, classify.outputs) == (
        {"outputs": [[2.5], [3.0], [4.5]]},
        {"scores": [[2.5], [3.0], [4.5]]},
    )
    assert request.inputs == {"x": [1.0, 2.0, 5.0]}
    assert request.outputs == {"y": [2.5, 3.0, 4.5]}
    made = card.read(trained[0] / "half_plus_two" / "1")
    assert made["metric"]["value"] == 0.0
    assert made["quick"] is False  # there is nothing to shorten


def test_linear_model_reaches_its_bar_even_when_quick(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    made = card.read(trained[0] / "linear_model" / "1")
    assert made["quick"] is True
    metric = made["metric"]
    assert metric["reached"] is True
    assert metric["value"] <= 3.6 and metric["value"] <= 0.6 * metric["baseline"]
    assert made["rows"]["train"] > 250 and made["rows"]["held_out"] > 50


def test_both_signatures_of_linear_model_agree(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    matrix, columns, regress = golden.read(trained[0] / "linear_model" / "1")
    rows = [list(pair) for pair in zip(*columns.inputs.values(), strict=True)]
    assert rows == matrix.inputs["x"]
    assert columns.outputs == matrix.outputs
    assert regress.outputs == {"outputs": matrix.outputs["mpg"]}


def test_signatures_of_examples_are_named_for_what_they_may_be_asked(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    for model, methods in {
        "half_plus_two": {
            "serving_default": "predict",
            "regress_x_to_y": "regress",
            "classify_x_to_y": "classify",
        },
        "linear_model": {"serving_default": "predict", "columns": "predict", "regress": "regress"},
    }.items():
        saved = messages.parse(
            messages.SavedModel, (trained[0] / model / "1" / "saved_model.pb").read_bytes()
        )
        found = {
            name: signature.method_name
            for name, signature in saved.meta_graphs[0].signature_def.items()
        }
        assert {name: found[name] for name in methods} == {
            n: f"tensorflow/serving/{m}" for n, m in methods.items()
        }


def test_a_card_tells_where_a_version_comes_from(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    made = card.read(trained[0] / "linear_model" / "1")
    assert (
        made["data"][0]["sha256"]
        == "3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d"
    )
    assert made["settings"] == {
        "are": "quick",
        "epochs": 40,
        "batch_size": 32,
        "learning_rate": 0.3,
        "seed": 0,
    }
    assert made["code"]["headrace"] and made["hardware"]["cpus"] and made["written"]
    assert made["files"] == card.checksums(trained[0] / "linear_model" / "1")
    assert [check["name"] for check in made["checks"] if not check["passed"]] == []


def test_no_optimizer_is_exported(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Two weights and a bias, not Adam's moments: those would be loaded by every server."""
    (shard,) = (trained[0] / "linear_model" / "1" / "variables").glob("variables.data-*")
    assert b"learning_rate" not in shard.read_bytes()


def test_the_same_seed_gives_the_same_model(tmp_path: Path, warm: WarmTrainer) -> None:
    made = []
    for place, seed in (("first", 0), ("other", 1), ("again", 0)):
        done = warm.call(
            tmp_path / place, "train", "linear_model", "--epochs", "3", "--seed", str(seed)
        )
        assert done.returncode == 0, done.stderr
        version = tmp_path / place / "models" / "linear_model" / "1"
        made.append((card.read(version)["metric"]["value"], golden.read(version)))
    first, other, again = made
    assert first == again
    assert first[0] != other[0] and first[1] != other[1]


def test_a_training_that_diverges_is_not_published(tmp_path: Path, warm: WarmTrainer) -> None:
    wild = ["--epochs", "4", "--learning-rate", "1e38"]
    done = warm.call(tmp_path, "train", "linear_model", *wild)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the training diverged" in done.stderr
    assert not (tmp_path / "models" / "linear_model").exists()


def test_a_keras_model_answers_in_the_servers_engine_and_below_its_bar_says_so(
    tmp_path: Path, warm: WarmTrainer
) -> None:
    done = warm.call(
        tmp_path, "train", "mnist_cnn", "--quick", "--epochs", "1", "--batch-size", "64"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  pass  golden answers of serving_default: within 1e-05" in done.stdout
    assert "  below accuracy: " in done.stdout
    made = card.read(tmp_path / "models" / "mnist_cnn" / "1")
    assert made["metric"]["reached"] is False
    assert made["metric"]["value"] > 0.5
    assert made["settings"]["are"] == "quick"
    assert "quick settings: full ones reach about 0.992" in done.stdout


@pytest.fixture(scope="module")
def pictures() -> Any:
    from trainer import zoo
    from trainer.entry import LoadRequest
    from trainer.settings import from_environment

    return zoo.find("mnist_mlp").load(
        LoadRequest(from_environment(os.environ).archives, quick=True)
    )


def test_pictures_are_grey_values_between_0_and_1(pictures: Any) -> None:
    for rows in (pictures.train, pictures.validation, pictures.held_out):
        assert rows["image"].shape[1:] == (28, 28, 1)
        assert rows["image"].dtype == np.float32
        assert rows["image"].min() == 0.0 and rows["image"].max() == 1.0
        assert set(rows["digit"]) == set(range(10))


def test_no_picture_is_on_both_sides(pictures: Any) -> None:
    sides = [
        {image.tobytes() for image in rows["image"]}
        for rows in (pictures.train, pictures.validation, pictures.held_out)
    ]
    assert len(set().union(*sides)) == sum(map(len, sides)) <= 5000


def test_every_signature_is_warmed_up_by_the_server(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    version = trained[0] / "linear_model" / "1"
    with (version / FILE).open("rb") as file:
        logs = [messages.PredictionLog.FromString(record) for record in records.read(file)]

    requests = [log.predict_log.request for log in logs]
    assert [r.model_spec.signature_name for r in requests] == [
        request.signature_name for request in golden.read(version)
    ]
    assert {r.model_spec.name for r in requests} == {"linear_model"}

    metrics = Metrics()
    WarmingEngine(TensorFlowEngine(), metrics=metrics).load(version).close()
    assert metrics.warmup_records.value(str(version), "OK") == len(logs) >= 2
