"""What tests of every kind may ask for: the exported contract models, and the real stack brought up
by `make up`."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.costs import Costs
from tests.forks import ForkServer
from tests.local import ROOT, LocalStack
from tests.served import contract_models, exported, kept, kinds, launch
from trainer.exports import new_card
from trainer.runs import runtime

__all__ = [
    "contract_models",
    "exported",
    "kinds",
    "launch",
    "local_stack",
    "slow_models",
    "spare_stack",
]

# With titanic those that take most of a training of all; `make up` trains the others in the fixture
# below.
_SLOW = ("imdb_cnn", "mnist_cnn", "mnist_mlp")
# Tests that ask for one of these run in one process, so that it is made once; the others go by
# their file.
_SHARED = {
    "local_stack": "stack",
    "doors": "abuse",
    "server": "contract",
    "stack": "integration",
    "with_tensorflow": "tensorflow",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", action="store_true", help="show what each file of tests took")
    parser.addoption(
        "--shuffle",
        type=int,
        metavar="SEED",
        help="files, and the tests in each, in a random order",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--costs"):
        config.pluginmanager.register(Costs())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        names = getattr(item, "fixturenames", ())
        shared = next((group for name, group in _SHARED.items() if name in names), item.path.name)
        item.add_marker(pytest.mark.xdist_group(shared))
    if (seed := config.getoption("--shuffle")) is not None:
        chance = random.Random(seed)
        order = {path: chance.random() for path in sorted({item.path for item in items})}
        items.sort(key=lambda item: (order[item.path], chance.random()))


@pytest.fixture(scope="session")
def with_tensorflow() -> Iterator[ForkServer]:
    """Python with TensorFlow imported, once for all tests."""
    with ForkServer("tensorflow", "trainer.cli") as server:
        yield server


@pytest.fixture(scope="session")
def slow_models(pytestconfig: pytest.Config, with_tensorflow: ForkServer) -> Path:
    """A store with versions of these, one epoch trained (titanic more: docs show its answers), kept
    between runs while trainer and TensorFlow are the same."""

    def make(folder: Path) -> None:
        own = {
            "HEADRACE_STORE": str(folder / "models"),
            "HEADRACE_CONFIG": str(ROOT / "multimodel.config"),
        }
        shutil.rmtree(folder / "models", ignore_errors=True)
        program = "import sys; from trainer import cli; sys.exit(cli.main(sys.argv[1:]))"
        for words in (("--epochs", "1", *_SLOW), ("titanic",)):
            line = ("train", "--quick", *words)
            done = with_tensorflow.run(program, *line, environ={**os.environ, **own}, timeout_s=600)
            assert done.returncode == 0, done.stdout + done.stderr

    made_by = new_card.trainer_sha256() + str(runtime.version()) + sys.version
    made_by += Path(__file__).read_text()
    return (
        kept(pytestconfig, f"zoo-{hashlib.sha256(made_by.encode()).hexdigest()[:16]}", make)
        / "models"
    )


@pytest.fixture(scope="session")
def local_stack(
    tmp_path_factory: pytest.TempPathFactory, slow_models: Path
) -> Iterator[LocalStack]:
    """Up, having trained what was missing: one for all tests, who leave it as they found it."""
    stack = LocalStack.new(tmp_path_factory.mktemp("stack"))
    for model in slow_models.iterdir():
        if model.is_dir():
            shutil.copytree(model, stack.store / model.name)
    up = stack.make("up")
    assert up.returncode == 0, up.stdout + up.stderr
    for name in ("half_plus_two", "linear_model"):
        assert f"{name} version 1 published" in up.stdout
    yield stack
    down = stack.make("down")
    assert down.returncode == 0, down.stdout + down.stderr


@pytest.fixture
def spare_stack(local_stack: LocalStack, tmp_path: Path) -> Iterator[LocalStack]:
    with local_stack.spare(tmp_path / "spare") as spare:
        yield spare
