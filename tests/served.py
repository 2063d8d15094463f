"""Fixtures of the tests that need models to serve; the conftest of each such folder imports them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import LiveServer

EXPORTER = Path(__file__).parent / "models" / "export.py"


@pytest.fixture(scope="session")
def contract_models(pytestconfig: pytest.Config) -> Path:
    """A folder with every model of tests/models/export.py, kept between runs while the exporter is the same."""
    assert pytestconfig.cache is not None
    key = hashlib.sha256(EXPORTER.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = pytestconfig.cache.mkdir(f"contract-models-{key}")
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, str(EXPORTER), str(folder)], check=True, timeout=300, capture_output=True)
        (folder / "complete").touch()
    return folder


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[LiveServer.Launcher]:
    """Starts servers that end with the test: ``launch(flag="value", ...)``."""
    with LiveServer.launcher(tmp_path) as launcher:
        yield launcher
