"""What the stack in containers calls docker with, and what it makes of the answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.compose import compose_settings
from deploy.compose.container_stack import ContainerStack
from deploy.terminal import Stop

DOCKER = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
{cases}
esac
"""


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ContainerStack:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    environ = {**os.environ, "HEADRACE_RUN": str(tmp_path), "HEADRACE_STORE": str(tmp_path / "m")}
    docker(tmp_path, "")
    return ContainerStack(compose_settings.from_environment(environ, dotenv=tmp_path / "no.env"))


def docker(folder: Path, cases: str) -> None:
    path = folder / "docker"
    path.write_text(DOCKER.format(cases=cases))
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("published", "address"),
    [
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("[::]:8000", "http://127.0.0.1:8000"),
        ("192.0.2.1:9000", "http://192.0.2.1:9000"),
        ("[2001:db8::1]:9000", "http://[2001:db8::1]:9000"),
        (":0", None),
        ("", None),
    ],
)
def test_the_gateway_is_reached_where_its_port_is_published(
    tmp_path: Path, stack: ContainerStack, published: str, address: str | None
) -> None:
    docker(tmp_path, f"*'port gateway 8000') echo '{published}' ;;")
    assert stack.gateway == address


def test_tensorboard_runs_in_the_trainers_image_on_the_port_it_is_told(
    tmp_path: Path, stack: ContainerStack
) -> None:
    stack.tensorboard("--port=7007")
    (call,) = [line for line in (tmp_path / "calls").read_text().splitlines() if " run " in line]
    assert "--publish 127.0.0.1:7007:7007 --entrypoint python trainer -m tensorboard.main" in call
    assert call.endswith("--port 7007 --port=7007 --host 0.0.0.0")


def test_images_that_cannot_be_built_stop_with_the_end_of_the_log(
    tmp_path: Path, stack: ContainerStack
) -> None:
    docker(tmp_path, "*build*) echo 'no such base image'; exit 17 ;;")
    with pytest.raises(Stop, match=r"could not be built \(.*build.log has all of it\):\nno such"):
        stack.train("half_plus_two")


def test_a_command_that_fails_stops_with_its_exit_code(
    tmp_path: Path, stack: ContainerStack
) -> None:
    docker(tmp_path, "*' down '*) exit 3 ;;")
    with pytest.raises(Stop, match="docker compose down ended with exit code 3"):
        stack.down()


def test_versions_need_a_running_stack(stack: ContainerStack) -> None:
    with pytest.raises(Stop, match="Nothing runs"):
        stack.versions("promote", "m")
    assert stack.status() is False


def test_the_containers_of_another_checkout_are_left_alone(
    tmp_path: Path, stack: ContainerStack
) -> None:
    docker(tmp_path, f"'ps --all --filter'*) echo '{tmp_path}' ;;")
    with pytest.raises(Stop, match=f"belong to {tmp_path}: `make down` there ends them"):
        stack.down()
