"""Writes docs/reference/images.md from the engine's images and from `docker compose config`."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from deploy.compose.choice import OVERRIDES, ROOT
from deploy.compose.compose_settings import compose_command

PAGE = ROOT / "docs/reference/images.md"
IMAGES = ("gateway", "serving", "trainer")
_SERVICES = ("trainer", "serving", "gateway")
# One service as `docker compose config` prints it.
Service = dict[str, Any]
# The cells of one column of a table, by the name of the row.
Column = dict[str, str]
_HEAD = """\
# Images and containers

Written by `python -m deploy.compose images` from `docker image inspect` and `docker compose
config`; a test compares it with the images as they are. Sizes are over the base image
(python:3.11-slim unless HEADRACE_BASE_IMAGE names another), in MB.
"""


def render() -> str:
    parts = [_HEAD, "## Our images\n", _images()]
    for serving in OVERRIDES:
        files = ["docker-compose.yml", *OVERRIDES[serving]]
        options = " ".join(f"-f {name}" for name in files)
        parts.append(f"## Containers: {serving}\n")
        parts.append(f"`docker compose {options} up`\n")
        parts.append(_containers(serving))
    return "\n".join(parts)


def size_mb(image: str, base: str) -> int:
    """What ``image`` adds to ``base``."""
    image_bytes: int = inspect(image)["Size"]
    base_bytes: int = inspect(base)["Size"]
    return round((image_bytes - base_bytes) / 1e6)


def inspect(image: str) -> dict[str, Any]:
    answer = subprocess.run(
        ["docker", "image", "inspect", image],
        capture_output=True,
        text=True,
        check=True,
    )
    images = json.loads(answer.stdout)
    details: dict[str, Any] = images[0]
    return details


def _images() -> str:
    tag = os.environ.get("HEADRACE_TAG") or "local"
    columns = {}
    for name in IMAGES:
        title = f"headrace-{name}"
        columns[title] = _image(f"{title}:{tag}")
    return _table(columns)


def _image(image: str) -> Column:
    base = os.environ.get("HEADRACE_BASE_IMAGE") or "python:3.11-slim"
    config = inspect(image)["Config"]
    ports = config.get("ExposedPorts") or {}
    labels = []
    for key in sorted(config["Labels"]):
        if key.startswith("org.opencontainers."):
            labels.append(key)
    return {
        "MB": str(size_mb(image, base)),
        "user": config["User"],
        "ports": _words(sorted(ports), otherwise="none"),
        "entry": _code(config["Entrypoint"]),
        "arguments": _code(config["Cmd"]),
        "health": _health(config["Healthcheck"]["Test"]),
        "labels": _words(labels),
    }


def _health(test: list[str]) -> str:
    if test == ["NONE"]:
        return "exit code"
    _kind, *command = test
    return _code(command)


def _containers(serving: str) -> str:
    services = _config(serving)["services"]
    columns = {}
    for name in _SERVICES:
        columns[name] = _container(services[name])
    return _table(columns)


def _container(service: Service) -> Column:
    cells = {
        "image": service["image"],
        "user": service["user"],
        "root filesystem": "writable",
        "capabilities": "default",
        "privileges": _words(service.get("security_opt", [])),
        "init": "no",
        "networks": _words(sorted(service["networks"])),
        "published": _words(_published(service), otherwise="nothing"),
        "mounts": _words(_mounts(service)),
        "waits for": _words(_conditions(service), otherwise="nothing"),
        "restart": service["restart"],
        "GPU": "no",
        "log": "{max-file} x {max-size}".format(**service["logging"]["options"]),
    }
    if service.get("read_only"):
        cells["root filesystem"] = "read-only"
    if service.get("cap_drop") == ["ALL"]:
        cells["capabilities"] = "none"
    if service.get("init"):
        cells["init"] = "yes"
    if _devices(service):
        cells["GPU"] = "reserved"
    return cells


def _published(service: Service) -> list[str]:
    addresses = []
    for port in service.get("ports", []):
        addresses.append(f"{port['host_ip']}:{port['published']}")
    return addresses


def _mounts(service: Service) -> list[str]:
    mounts = []
    for volume in service["volumes"]:
        target = volume["target"]
        if not volume.get("read_only"):
            target += " (written)"
        mounts.append(target)
    return mounts


def _conditions(service: Service) -> list[str]:
    """The services that this one waits for, and what they must have reached."""
    conditions = []
    for name, dependency in service.get("depends_on", {}).items():
        conditions.append(f"{name}: {dependency['condition']}")
    return conditions


def _devices(service: Service) -> list[Any]:
    resources = service.get("deploy", {}).get("resources", {})
    devices: list[Any] = resources.get("reservations", {}).get("devices", [])
    return devices


def _config(serving: str) -> dict[str, Any]:
    # Only what finds the engine: the page shows the defaults, not the settings of this machine.
    environ = {}
    for name, value in os.environ.items():
        if name in ("PATH", "HOME") or name.startswith("DOCKER_"):
            environ[name] = value
    command = [
        *compose_command(serving),
        "--env-file",
        os.devnull,
        "config",
        "--format",
        "json",
    ]
    answer = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    config: dict[str, Any] = json.loads(answer.stdout)
    return config


def _code(words: list[str] | None) -> str:
    if not words:
        return "none"
    return f"`{' '.join(words)}`"


def _words(words: list[str], *, otherwise: str = "") -> str:
    return " ".join(words) or otherwise


def _table(columns: dict[str, Column]) -> str:
    """``columns``: by title, cells by row name. All have the rows of the first."""
    titles = list(columns)
    rule = ["---"] * (len(titles) + 1)
    lines = [_table_row(["", *titles]), _table_row(rule)]
    for name in columns[titles[0]]:
        row = [name]
        for cells in columns.values():
            row.append(cells[name])
        lines.append(_table_row(row))
    return "\n".join(lines) + "\n"


def _table_row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
