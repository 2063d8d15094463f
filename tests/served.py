"""Fixtures of the tests that need models to serve."""

from __future__ import annotations

import fcntl
import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.forks import ForkServer
from tests.live import LiveServer

EXPORTERS = Path(__file__).parent / "models"
_RUN = "import runpy, sys; sys.argv[:1] = []; runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.fixture(scope="session")
def exported(pytestconfig: pytest.Config, with_tensorflow: ForkServer) -> Callable[..., Path]:
    """``exported("export.py")``: a folder with what that exporter of tests/models/ writes, kept
    between runs while the exporter is the same."""

    def folder_of(exporter: str, *names: str) -> Path:
        script = EXPORTERS / exporter
        key = hashlib.sha256(script.read_bytes() + sys.version.encode()).hexdigest()[:16]
        what = {"export.py": "contract-models"}.get(exporter, "-".join([script.stem, *names]))

        def make(folder: Path) -> None:
            done = with_tensorflow.run(_RUN, str(script), str(folder), *names)
            assert done.returncode == 0, done.stderr

        return kept(pytestconfig, f"{what}-{key}", make)

    return folder_of


@pytest.fixture(scope="session")
def contract_models(exported: Callable[..., Path]) -> Path:
    """A folder with every model of tests/models/export.py."""
    return exported("export.py")


@pytest.fixture(scope="session")
def kinds(exported: Callable[..., Path]) -> Path:
    return exported("export_kinds.py")


def kept(pytestconfig: pytest.Config, name: str, make: Callable[[Path], None]) -> Path:
    """A folder of pytest's cache that ``make`` fills once; of two processes the second waits."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir(name)
    with alone(folder.with_name(f"{name}.lock")):
        if not (folder / "complete").exists():
            make(folder)
            (folder / "complete").touch()
    return folder


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[LiveServer.Launcher]:
    """Starts servers that end with the test: ``launch(flag="value", ...)``."""
    with LiveServer.launcher(tmp_path) as launcher:
        yield launcher
