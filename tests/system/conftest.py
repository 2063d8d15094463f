"""The stack in containers, brought up once; seen through the docker SDK and its own ports.

No engine is a failure here, not a skip: these tests are asked for by name (`make test-system`).
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator

import docker
import pytest

from tests.system.project import CALL_TIMEOUT_S, PROJECT, ROOT, Compose, wait_for


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    try:
        found = docker.from_env(timeout=120)
        found.ping()
    except docker.errors.DockerException as e:
        pytest.exit(f"no Docker engine answers here, and these tests need one: {e}", returncode=3)
    yield found
    found.close()


@pytest.fixture(scope="session")
def cold(
    engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compose]:
    """The project before anything of it exists, its images built."""
    folder = tmp_path_factory.mktemp("system")
    for name in ("models", "workspace"):
        (folder / name).mkdir()
        (folder / name).chmod(0o755)
    shutil.copy(ROOT / "multimodel.config", folder / "workspace")
    (folder / "workspace/multimodel.config").chmod(0o644)
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HEADRACE_", "COMPOSE_"))
    }
    own = {
        "COMPOSE_PROJECT_NAME": PROJECT,
        "HEADRACE_TAG": os.environ.get("HEADRACE_TAG") or "local",  # an engine may be shared
        "HEADRACE_STORE": str(folder / "models"),
        "HEADRACE_CONFIG_DIR": str(folder / "workspace"),
        "HEADRACE_RUN": str(folder / "run"),
        "HEADRACE_HTTP_PORT": "",
        "HEADRACE_GRPC_PORT": "",
        "HEADRACE_TIMEOUT_S": str(CALL_TIMEOUT_S),
    }
    compose = Compose(engine, folder, plain | own)
    compose.run("down", "--volumes", "--remove-orphans")
    compose.run("build")
    yield compose
    print(compose.run("logs", "--no-color", "--tail", "30", check=False).stdout, file=sys.stderr)
    compose.run("down", "--volumes", "--remove-orphans")


@pytest.fixture(scope="session")
def started(cold: Compose) -> tuple[Compose, float]:
    """The project up, and how many seconds it took from an empty store to the first right
    prediction."""
    cold.stack()
    began = time.monotonic()
    settings_ = cold.stack().settings
    os.chown(cold.store, settings_.uid, settings_.gid)
    cold.run("up", "--detach", "--no-build")
    wait_for(cold.predicts, within_s=60, what="the first prediction")
    return cold, time.monotonic() - began


@pytest.fixture
def stack(started: tuple[Compose, float]) -> Iterator[Compose]:
    """The stack, well before and after each test."""
    compose, _ = started
    yield compose
    compose.heal()
