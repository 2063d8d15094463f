"""Fixtures of the tests that need models to serve; the conftest of each such folder imports them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import LiveServer

EXPORTERS = Path(__file__).parent / "models"


@pytest.fixture(scope="session")
def contract_models(pytestconfig: pytest.Config) -> Path:
    """A folder with every model of tests/models/export.py."""
    return exported(pytestconfig, "export.py")


def exported(pytestconfig: pytest.Config, exporter: str, *names: str) -> Path:
    """A folder with what the exporter writes, kept between runs while the exporter is the same."""
    assert pytestconfig.cache is not None
    script = EXPORTERS / exporter
    key = hashlib.sha256(script.read_bytes() + sys.version.encode()).hexdigest()[:16]
    what = {"export.py": "contract-models"}.get(exporter, "-".join([script.stem, *names]))
    folder = pytestconfig.cache.mkdir(f"{what}-{key}")
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, str(script), str(folder), *names], check=True, timeout=300, capture_output=True)
        (folder / "complete").touch()
    return folder


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[LiveServer.Launcher]:
    """Starts servers that end with the test: ``launch(flag="value", ...)``."""
    with LiveServer.launcher(tmp_path) as launcher:
        yield launcher
