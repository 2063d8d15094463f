"""A second checkout of the project leaves the containers of the first one alone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.compose import compose_settings
from deploy.compose.compose_settings import compose_command
from deploy.terminal import Stop
from tests.system.project import ROOT, Compose

PROJECT = "headrace-checkouts"


@pytest.fixture
def first_checkout(cold: Compose, tmp_path: Path) -> Iterator[Path]:
    """Another folder with the compose files, whose containers exist."""
    for file in ROOT.glob("*compose*.yml"):
        shutil.copy(file, tmp_path)
    shutil.copytree(ROOT / "deploy/compose/health", tmp_path / "deploy/compose/health")
    environ = compose_settings.with_pip(cold.stack(COMPOSE_PROJECT_NAME=PROJECT).settings)
    command = [word.replace(str(ROOT), str(tmp_path)) for word in compose_command("embedded")]
    subprocess.run([*command, "create", "--no-build"], env=environ, check=True, capture_output=True)
    yield tmp_path
    subprocess.run([*command, "down", "--volumes"], env=environ, check=True, capture_output=True)


def test_the_verbs_name_the_folder_that_the_containers_belong_to(
    cold: Compose, first_checkout: Path, tmp_path: Path
) -> None:
    second = cold.stack(COMPOSE_PROJECT_NAME=PROJECT, HEADRACE_RUN=str(tmp_path / "run"))
    label = {"label": f"com.docker.compose.project={PROJECT}"}
    before = {container.id for container in cold.client.containers.list(all=True, filters=label)}
    assert len(before) == 3
    for verb in (
        second.up,
        second.down,
        second.status,
        second.reload,
        lambda: second.versions("promote", "mnist_cnn"),
    ):
        with pytest.raises(
            Stop, match=f"(?s)belong to {first_checkout}: .make down.*COMPOSE_PROJECT_NAME="
        ):
            verb()
    assert {
        container.id for container in cold.client.containers.list(all=True, filters=label)
    } == before
