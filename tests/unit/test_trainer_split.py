"""Which rows are held out, and the order of an epoch."""

from __future__ import annotations

import numpy as np

from trainer.data import split


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
