"""What tests of every kind may ask for: the exported contract models, and the real stack brought up by `make up`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local import ROOT, LocalStack
from tests.served import contract_models, launch
from trainer.exports import card
from trainer.runs import runtime

__all__ = ["contract_models", "launch", "local_stack", "slow_models", "spare_stack"]

# Those that take most of a training of all with quick settings; `make up` trains the others in the fixture below.
_SLOW = ("imdb_cnn", "mnist_cnn", "mnist_mlp", "titanic")


@pytest.fixture(scope="session")
def slow_models(pytestconfig: pytest.Config) -> Path:
    """A store with quick versions of these, kept between runs while trainer and TensorFlow are the same."""
    assert pytestconfig.cache is not None
    made_by = card.trainer_sha256() + runtime.version() + sys.version
    folder = pytestconfig.cache.mkdir(f"zoo-{hashlib.sha256(made_by.encode()).hexdigest()[:16]}")
    if not (folder / "complete").exists():
        store = folder / "models"
        shutil.rmtree(store, ignore_errors=True)
        own = {"HEADRACE_STORE": str(store), "HEADRACE_CONFIG": str(ROOT / "multimodel.config")}
        line = [sys.executable, "-m", "trainer", "train", "--quick", *_SLOW]
        done = subprocess.run(line, cwd=ROOT, env={**os.environ, **own}, timeout=600, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "complete").touch()
    return folder / "models"


@pytest.fixture(scope="session")
def local_stack(tmp_path_factory: pytest.TempPathFactory, slow_models: Path) -> Iterator[LocalStack]:
    """Up, having trained what was missing: one for all tests, who leave it as they found it."""
    stack = LocalStack.new(tmp_path_factory.mktemp("stack"))
    for name in _SLOW:
        shutil.copytree(slow_models / name, stack.store / name)
    up = stack.make("up")
    assert up.returncode == 0, up.stdout + up.stderr
    for name in ("half_plus_two", "linear_model"):
        assert f"{name} version 1 published" in up.stdout
    yield stack
    down = stack.make("down")
    assert down.returncode == 0, down.stdout + down.stderr


@pytest.fixture
def spare_stack(local_stack: LocalStack, tmp_path: Path) -> Iterator[LocalStack]:
    """Another one beside it, not up yet, of one model and that already trained: quick to come and go."""
    spare = LocalStack.new(tmp_path / "spare", "half_plus_two")
    shutil.copytree(local_stack.store / "half_plus_two", spare.store / "half_plus_two")
    yield spare
    spare.make("down")
