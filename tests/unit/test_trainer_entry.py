"""Metrics and their bars, and what each zoo file must say."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.store import model_list
from trainer import zoo
from trainer.entry import Metric, Score
from trainer.errors import Usage

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("better", "margin", "value", "baseline", "reached"),
    [
        ("higher", 0.0, 0.9, 0.1, True),
        ("higher", 0.0, 0.89, 0.1, False),
        ("higher", 0.0, 0.95, 0.96, False),
        ("lower", 0.0, 0.9, 5.0, True),
        ("lower", 0.0, 0.91, 5.0, False),
        ("lower", 0.4, 0.9, 1.6, True),
        ("lower", 0.4, 0.9, 1.4, False),
        ("lower", 0.0, float("nan"), 5.0, False),
    ],
)
def test_a_bar_is_an_amount_and_a_distance_to_the_baseline(
    better: str, margin: float, value: float, baseline: float, reached: bool
) -> None:
    metric = Metric("m", bar=0.9, better=better, baseline="a guess", margin=margin)  # type: ignore[arg-type]
    assert metric.reached(Score(value, baseline)) is reached


@pytest.mark.parametrize("name", zoo.names())
def test_a_zoo_file_is_of_one_piece(name: str) -> None:
    entry = zoo.find(name)
    assert entry.name == name
    assert "serving_default" in entry.signatures
    assert all(spec.inputs and spec.outputs for spec in entry.signatures.values())
    assert all(len(archive.sha256) == 64 and archive.licence for archive in entry.data)


def test_every_model_of_the_shipped_config_is_in_the_zoo() -> None:
    assert {model.name for model in model_list.load(ROOT / "multimodel.config").models} <= set(
        zoo.names()
    )


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(Usage, match=r"no model 'nope' in the zoo; there are .*half_plus_two"):
        zoo.find("nope")
