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
_HEAD = """\
# Images and containers

Written by `python -m deploy.compose images` from `docker image inspect` and `docker compose
config`; a test compares it with the images as they are. Sizes are over the base image
(python:3.11-slim unless HEADRACE_BASE_IMAGE names another), in MB.
"""


def render() -> str:
    parts = [_HEAD, "## Our images\n", _images()]
    for serving in OVERRIDES:
        files = " ".join(f"-f {name}" for name in ("docker-compose.yml", *OVERRIDES[serving]))
        parts.append(f"## Containers: {serving}\n")
        parts.append(f"`docker compose {files} up`\n")
        parts.append(_containers(serving))
    return "\n".join(parts)


def size_mb(image: str, base: str) -> int:
    over: int = inspect(image)["Size"] - inspect(base)["Size"]
    return round(over / 1e6)


def inspect(image: str) -> dict[str, Any]:
    answer = subprocess.run(
        ["docker", "image", "inspect", image], capture_output=True, text=True, check=True
    )
    details: dict[str, Any] = json.loads(answer.stdout)[0]
    return details


def _images() -> str:
    tag = os.environ.get("HEADRACE_TAG") or "local"
    columns = [_image(f"headrace-{name}:{tag}") for name in IMAGES]
    rows = [[key, *(column[key] for column in columns)] for key in columns[0]]
    return _table(["", *(f"headrace-{name}" for name in IMAGES)], rows)


def _image(image: str) -> dict[str, str]:
    base = os.environ.get("HEADRACE_BASE_IMAGE") or "python:3.11-slim"
    config = inspect(image)["Config"]
    health = config["Healthcheck"]["Test"]
    labels = [key for key in config["Labels"] if key.startswith("org.opencontainers.")]
    return {
        "MB": str(size_mb(image, base)),
        "user": config["User"],
        "ports": " ".join(sorted(config.get("ExposedPorts") or {})) or "none",
        "entry": _code(config["Entrypoint"]),
        "arguments": _code(config["Cmd"]),
        "health": "exit code" if health == ["NONE"] else _code(health[1:]),
        "labels": " ".join(sorted(labels)),
    }


def _containers(serving: str) -> str:
    services = _config(serving)["services"]
    columns = [_container(services[name]) for name in _SERVICES]
    rows = [[key, *(column[key] for column in columns)] for key in columns[0]]
    return _table(["", *_SERVICES], rows)


def _container(service: dict[str, Any]) -> dict[str, str]:
    ports = [f"{port['host_ip']}:{port['published']}" for port in service.get("ports", [])]
    waits = [
        f"{name}: {dependency['condition']}"
        for name, dependency in service.get("depends_on", {}).items()
    ]
    return {
        "image": service["image"],
        "user": service["user"],
        "root filesystem": "read-only" if service.get("read_only") else "writable",
        "capabilities": "none" if service.get("cap_drop") == ["ALL"] else "default",
        "privileges": " ".join(service.get("security_opt", [])),
        "init": "yes" if service.get("init") else "no",
        "networks": " ".join(sorted(service["networks"])),
        "published": " ".join(ports) or "nothing",
        "mounts": " ".join(map(_mount, service["volumes"])),
        "waits for": " ".join(waits) or "nothing",
        "restart": service["restart"],
        "GPU": "reserved" if _devices(service) else "no",
        "log": "{max-file} x {max-size}".format(**service["logging"]["options"]),
    }


def _mount(volume: dict[str, Any]) -> str:
    target: str = volume["target"]
    return target if volume.get("read_only") else f"{target} (written)"


def _devices(service: dict[str, Any]) -> list[Any]:
    resources = service.get("deploy", {}).get("resources", {})
    devices: list[Any] = resources.get("reservations", {}).get("devices", [])
    return devices


def _config(serving: str) -> dict[str, Any]:
    # Only what finds the engine: the page shows the defaults, not the settings of this machine.
    environ = {}
    for name, value in os.environ.items():
        if name in ("PATH", "HOME") or name.startswith("DOCKER_"):
            environ[name] = value
    command = [*compose_command(serving), "--env-file", os.devnull, "config", "--format", "json"]
    answer = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    config: dict[str, Any] = json.loads(answer.stdout)
    return config


def _code(words: list[str] | None) -> str:
    return f"`{' '.join(words)}`" if words else "none"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"
