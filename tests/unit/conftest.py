"""What unit tests need of the trainer: one that need not import TensorFlow each time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.forks import ForkServer
from tests.unit.warm import WarmTrainer, warm_trainer


@pytest.fixture(scope="session")
def warm(
    with_tensorflow: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WarmTrainer]:
    with warm_trainer(with_tensorflow, tmp_path_factory.mktemp("trainer")) as found:
        yield found
