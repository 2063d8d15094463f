"""The compose files as they stand: who is locked in how, who may reach whom, one version, every
knob passed on."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.compose.choice import pinned_tensorflow
from deploy.compose.compose_settings import from_environment
from gateway.settings import Settings
from headrace.settings import variable

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("docker-compose.yml", "compose.cpu.yml", "compose.embedded.yml")


class Loader(yaml.SafeLoader):
    """YAML as compose reads it: merge keys, and its own tag for taking something away."""


Loader.add_constructor("!reset", lambda loader, node: {"!reset": True})


def load(name: str) -> dict[str, Any]:
    return yaml.load((ROOT / name).read_text(), Loader)


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return load("docker-compose.yml")["services"]


@pytest.mark.parametrize("name", ["trainer", "versions", "serving", "gateway"])
def test_each_container_is_locked_in(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    assert service["user"] == "${HEADRACE_UID:-10001}:${HEADRACE_GID:-10001}"
    assert service["read_only"] is True
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert "container_name" not in service
    assert "privileged" not in service


@pytest.mark.parametrize("name", ["trainer", "serving", "gateway"])
def test_each_that_works_can_be_limited(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    limits = service["deploy"]["resources"]["limits"]
    assert limits["cpus"].startswith(f"${{HEADRACE_{name.upper()}_CPUS")
    assert limits["memory"].startswith(f"${{HEADRACE_{name.upper()}_MEMORY")


def test_the_project_has_the_name_that_its_containers_are_looked_up_by(tmp_path: Path) -> None:
    assert (
        load("docker-compose.yml")["name"] == from_environment({}, dotenv=tmp_path / "none").project
    )


def test_each_waits_for_the_one_before(services: dict[str, dict[str, Any]]) -> None:
    assert services["serving"]["depends_on"] == {
        "trainer": {"condition": "service_completed_successfully"}
    }
    assert services["gateway"]["depends_on"] == {"serving": {"condition": "service_healthy"}}
    assert services["trainer"]["restart"] == "no"


def test_only_the_gateway_publishes_ports_and_on_this_machine_alone(
    services: dict[str, dict[str, Any]],
) -> None:
    assert [name for name, service in services.items() if "ports" in service] == ["gateway"]
    # ":-" for the address; "-" for the ports, since an empty one is a choice.
    assert services["gateway"]["ports"] == [
        "${HEADRACE_BIND_ADDRESS:-127.0.0.1}:${HEADRACE_HTTP_PORT-8000}:8000",
        "${HEADRACE_BIND_ADDRESS:-127.0.0.1}:${HEADRACE_GRPC_PORT-8001}:8001",
    ]


def test_only_the_trainer_is_in_a_network_with_a_way_out(
    services: dict[str, dict[str, Any]],
) -> None:
    networks = load("docker-compose.yml")["networks"]
    assert networks["internal"] == {"internal": True}
    assert networks["edge"]["driver_opts"] == {
        "com.docker.network.bridge.enable_ip_masquerade": "false"
    }
    assert {name: service["networks"] for name, service in services.items()} == {
        "trainer": ["outside"],
        "versions": ["internal"],
        "serving": ["internal"],
        "gateway": ["edge", "internal"],
    }


def test_the_store_is_a_folder_that_only_the_trainers_image_writes(
    services: dict[str, dict[str, Any]],
) -> None:
    writable = {}
    for name, service in services.items():
        (mount,) = [volume for volume in service["volumes"] if volume["target"] == "/models"]
        assert mount["source"] == "${HEADRACE_STORE:-./models}"
        writable[name] = not mount.get("read_only", False)
    assert writable == {"trainer": True, "versions": True, "serving": False, "gateway": False}
    assert services["versions"]["image"] == services["trainer"]["image"]


def test_only_the_verbs_that_edit_the_users_list_may_write_it(
    services: dict[str, dict[str, Any]],
) -> None:
    lists = {
        name: mount.get("read_only", False)
        for name, service in services.items()
        for mount in service["volumes"]
        if mount["target"] == "/workspace"
    }
    assert lists == {"trainer": True, "versions": False}
    assert services["versions"]["profiles"] == ["versions"]  # started by name alone


def test_the_servers_poll_the_rendered_list(services: dict[str, dict[str, Any]]) -> None:
    command = services["serving"]["command"]
    assert "--model_config_file=/models/multimodel.config" in command
    assert "--model_config_file_poll_wait_seconds=${HEADRACE_CONFIG_POLL_S:-1}" in command
    assert (
        "HEADRACE_MODEL_CONFIG_FILE=/models/multimodel.config" in services["gateway"]["environment"]
    )


def test_every_setting_of_the_gateway_can_be_given(services: dict[str, dict[str, Any]]) -> None:
    given = {line.partition("=")[0] for line in services["gateway"]["environment"]}
    # Only tests on port 0 need to be told the port by a file.
    assert given == {variable(f.name) for f in fields(Settings)} - {"HEADRACE_PORT_FILE"}


def test_the_image_is_of_the_tensorflow_that_trains() -> None:
    pin = pinned_tensorflow()
    for name, suffix in (("docker-compose.yml", "-gpu"), ("compose.cpu.yml", "")):
        image = load(name)["services"]["serving"]["image"]
        assert image == f"tensorflow/serving:${{TF_SERVING_VERSION:-{pin}}}{suffix}"


def test_the_gpu_is_reserved_and_the_overrides_take_that_away(
    services: dict[str, dict[str, Any]],
) -> None:
    (device,) = services["serving"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert (
        services["serving"]["environment"]["TF_FORCE_GPU_ALLOW_GROWTH"]
        == "${TF_FORCE_GPU_ALLOW_GROWTH:-true}"
    )
    for name in NAMES[1:]:
        assert load(name)["services"]["serving"]["deploy"]["resources"]["reservations"] == {
            "!reset": True
        }


def test_the_embedded_server_runs_with_the_very_flags_of_tensorflow_serving() -> None:
    serving = load("compose.embedded.yml")["services"]["serving"]
    assert set(serving) == {"image", "build", "entrypoint", "deploy"}


def test_every_variable_is_in_the_guide() -> None:
    guide = (ROOT / "docs/guides/compose.md").read_text()
    used = set().union(*(re.findall(r"\$\{(\w+)", (ROOT / name).read_text()) for name in NAMES))
    missing = sorted(name for name in used if f"`{name}`" not in guide)
    assert not missing
