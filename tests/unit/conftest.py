"""What unit tests need of models: exported ones to serve, and a trainer that need not import TensorFlow each time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.served import contract_models, launch
from tests.unit.warm import WarmTrainer, warm_trainer

__all__ = ["contract_models", "launch", "warm"]


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmTrainer]:
    with warm_trainer(tmp_path_factory.mktemp("trainer")) as found:
        yield found
