"""How far a training is, on a terminal and in a log file."""

from __future__ import annotations

import io

import numpy as np
import pytest

from trainer.runs import progress


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
