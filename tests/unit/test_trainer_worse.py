"""A model that was made worse stays out of the store, and gets in by force alone: real trainings of a few seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from headrace.wire import store
from tests.unit.toy import ROOT
from trainer import card

BADLY = ("--epochs", "1", "--learning-rate", "0.001")


def train(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Data comes from the configured index once and stays in the shared cache."""
    environment = {**os.environ, "HEADRACE_STORE": str(place / "models"), "HEADRACE_CONFIG": "multimodel.config"}
    line = [sys.executable, "-m", "trainer", "train", "linear_model", *words]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_worse_training_is_refused_and_force_is_on_the_card(tmp_path: Path) -> None:
    model = tmp_path / "models" / "linear_model"
    assert train(tmp_path, "--quick").returncode == 0
    worse = train(tmp_path, *BADLY)
    assert worse.returncode == 3, worse.stdout + worse.stderr
    assert "linear_model was not published: mae_mpg against version 1: " in worse.stderr
    assert store.versions(model) == (1,)
    forced = train(tmp_path, *BADLY, "--force")
    assert forced.returncode == 0, forced.stderr
    assert card.read(model / "2")["forced"][0].startswith("mae_mpg against version 1: ")
    # The version that is live now is the bad one: a good one passes again.
    assert train(tmp_path, "--quick").returncode == 0
    assert store.versions(model) == (1, 2, 3)
