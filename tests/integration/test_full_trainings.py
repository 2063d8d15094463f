"""Every model of the zoo trained in full settings reaches its bar."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.store import card
from tests.forks import ForkServer
from tests.unit.warm import environment
from trainer import zoo

TRAIN = "import sys; from trainer import cli; sys.exit(cli.main(sys.argv[1:]))"


@pytest.mark.full
@pytest.mark.parametrize("model", zoo.names())
def test_a_full_training_reaches_its_bar(
    model: str, tmp_path: Path, with_tensorflow: ForkServer
) -> None:
    done = with_tensorflow.run(
        TRAIN, "train", model, environ={**os.environ, **environment(tmp_path)}, timeout_s=7200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = card.read(tmp_path / "models" / model / "1")
    assert made["quick"] is False
    assert made["metric"]["reached"], made["metric"]
