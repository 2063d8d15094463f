"""What tests of every kind may ask for: the exported contract models, and the real stack brought up by `make up`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local import LocalStack
from tests.served import contract_models, launch

__all__ = ["contract_models", "launch", "local_stack", "spare_stack"]


@pytest.fixture(scope="session")
def local_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Up from nothing, its models trained: one for all tests, who leave it as they found it."""
    stack = LocalStack.new(tmp_path_factory.mktemp("stack"))
    up = stack.make("up")
    assert up.returncode == 0, up.stdout + up.stderr
    yield stack
    down = stack.make("down")
    assert down.returncode == 0, down.stdout + down.stderr


@pytest.fixture
def spare_stack(local_stack: LocalStack, tmp_path: Path) -> Iterator[LocalStack]:
    """Another one beside it, not up yet, over a copy of its models."""
    spare = LocalStack.new(tmp_path / "spare")
    shutil.copytree(local_stack.store, spare.store)
    yield spare
    spare.make("down")
