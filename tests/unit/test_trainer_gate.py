"""A model that was made worse stays out of the store, and gets in by force alone: real trainings of
a second."""

from __future__ import annotations

from pathlib import Path

from headrace.store import card, folders
from tests.unit.warm import WarmTrainer

BADLY = ("--epochs", "1", "--learning-rate", "0.001")


def test_a_worse_training_is_refused_and_force_is_on_the_card(
    tmp_path: Path, warm: WarmTrainer
) -> None:
    train = ("train", "linear_model")
    model = tmp_path / "models" / "linear_model"
    assert warm.call(tmp_path, *train, "--quick").returncode == 0
    worse = warm.call(tmp_path, *train, *BADLY)
    assert worse.returncode == 3, worse.stdout + worse.stderr
    assert "linear_model was not published: mae_mpg against version 1: " in worse.stderr
    assert folders.versions(model) == (1,)
    forced = warm.call(tmp_path, *train, *BADLY, "--force")
    assert forced.returncode == 0, forced.stderr
    assert card.read(model / "2")["forced"][0].startswith("mae_mpg against version 1: ")
    # The version that is live now is the bad one: a good one passes again.
    assert warm.call(tmp_path, *train, "--quick").returncode == 0
    assert folders.versions(model) == (1, 2, 3)
