"""The small parts: splitting rows, bars, progress, settings, golden answers, and what each zoo file
must say."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from headrace.protocol import dtypes
from headrace.store import model_list
from trainer import settings, zoo
from trainer.data import split
from trainer.entry import Metric, Score
from trainer.errors import Usage
from trainer.exports import golden
from trainer.runs import progress

ROOT = Path(__file__).resolve().parents[2]


def columns(rows: list[int]) -> dict[str, np.ndarray]:
    return {"a": np.array(rows), "b": np.array(rows) * 2}


def test_equal_rows_are_counted_once_and_never_on_both_sides() -> None:
    rows = list(range(200))
    data = split.by_content(columns(rows + rows))
    train, held_out = data.train["a"].tolist(), data.held_out["a"].tolist()
    assert sorted(train + held_out) == rows
    assert 20 <= len(held_out) <= 60
    assert (data.train["b"] == data.train["a"] * 2).all()


def test_a_row_stays_on_its_side_wherever_it_stands() -> None:
    forward, backward = (
        split.by_content(columns(list(range(200)))),
        split.by_content(columns(list(range(199, -1, -1)))),
    )
    assert sorted(forward.held_out["a"]) == sorted(backward.held_out["a"])


def test_columns_that_run_together_are_still_told_apart() -> None:
    data = split.by_content(
        {"a": np.array(["ab", "a"], object), "b": np.array([b"c", b"bc"], object)}
    )
    assert len(data.train["a"]) + len(data.held_out["a"]) == 2


def test_the_order_of_an_epoch_is_of_seed_and_epoch_alone() -> None:
    first = split.order(50, seed=3, epoch=1)
    assert (first == split.order(50, seed=3, epoch=1)).all()
    assert (first != split.order(50, seed=3, epoch=2)).any()
    assert (first != split.order(50, seed=4, epoch=1)).any()
    assert sorted(first) == list(range(50))


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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_file_gets_whole_lines_and_few(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0, 1000, 1.0))  # each look at the clock is a second later
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    log = io.StringIO()
    told = progress.Progress("m", epochs=4, stream=log)
    for epoch in range(1, 5):
        told.step(epoch, 1, 2)
        told.step(epoch, 2, 2)
        told.epoch(epoch, loss=1 / epoch)
    lines = log.getvalue().splitlines()
    assert lines == [
        "m: epoch 2/4, 100%, 5 s",
        "m: epoch 4/4, 50%, 10 s",
        "m: epoch 4/4, loss 0.25, 12 s",
    ]


def test_a_terminal_gets_one_line_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0, 1000, 1.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    screen = Terminal()
    told = progress.Progress("m", epochs=1, stream=screen)
    told.step(1, 1, 2)
    told.epoch(1, loss=0.5)
    shown = screen.getvalue().split("\r\x1b[K")
    assert shown == [
        "",
        "m: epoch 1/1 [============            ] 1/2 1 s",
        "m: epoch 1/1, loss 0.5, 2 s\n",
    ]


def test_settings_come_from_the_environment_and_empty_means_unset() -> None:
    assert settings.from_environment(
        {"HEADRACE_STORE": "/models", "HEADRACE_CACHE": ""}
    ) == settings.Settings(
        store=Path("/models"), config=Path("multimodel.config"), cache=Path(".cache")
    )


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([0.1, np.float32(1e-38), 3], np.float32), dtypes.FLOAT),
        (np.array([[b"\xff\x00", b""]], object), dtypes.STRING),
        (np.array(7, np.int64), dtypes.INT64),
        (np.array([True, False]), dtypes.BOOL),
    ],
    ids=["float", "string", "scalar", "bool"],
)
def test_golden_values_come_back_bit_for_bit(array: np.ndarray, dtype: dtypes.DType) -> None:
    back = golden.to_array(json.loads(json.dumps(golden.to_json(array))), dtype)
    assert back.shape == array.shape
    assert back.dtype == array.dtype
    assert (back == array).all()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (np.float32([1, 2.0000001]), None),
        (np.float32([1, 2.1]), "off by 0.1"),
        (np.float32([[1, 2]]), "shape [1, 2], recorded [2]"),
        (np.float32([1, np.nan]), "off by nan"),
    ],
    ids=["close", "far", "another shape", "nan"],
)
def test_a_difference_is_said_in_words(answer: np.ndarray, said: str | None) -> None:
    found = golden.difference(answer, np.float32([1, 2]), tolerance=1e-5)
    assert found == said or (said and found and found.startswith(said))


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
