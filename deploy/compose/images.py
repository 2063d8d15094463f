"""docs/reference/images.md, written from what the engine says of the images and of `docker compose
config`."""

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
        parts += [
            f"## Containers: {serving}\n",
            f"`docker compose {files} up`\n",
            _containers(serving),
        ]
    return "\n".join(parts)


def size_mb(image: str, base: str) -> int:
    over: int = inspect(image)["Size"] - inspect(base)["Size"]
    return round(over / 1e6)


def inspect(image: str) -> dict[str, Any]:
    done = subprocess.run(
        ["docker", "image", "inspect", image], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def _images() -> str:
    base = os.environ.get("HEADRACE_BASE_IMAGE") or "python:3.11-slim"
    tag = os.environ.get("HEADRACE_TAG") or "local"
    rows: dict[str, list[str]] = {
        name: [] for name in ("MB", "user", "ports", "entry", "arguments", "health", "labels")
    }
    for name in IMAGES:
        image = f"headrace-{name}:{tag}"
        config = inspect(image)["Config"]
        rows["MB"].append(str(size_mb(image, base)))
        rows["user"].append(config["User"])
        rows["ports"].append(" ".join(sorted(config.get("ExposedPorts") or {})) or "none")
        rows["entry"].append(_code(config["Entrypoint"]))
        rows["arguments"].append(_code(config["Cmd"]))
        rows["health"].append(
            _code(config["Healthcheck"]["Test"][1:])
            if config["Healthcheck"]["Test"] != ["NONE"]
            else "exit code"
        )
        rows["labels"].append(
            " ".join(
                sorted(key for key in config["Labels"] if key.startswith("org.opencontainers."))
            )
        )
    return _table(
        ["", *(f"headrace-{name}" for name in IMAGES)],
        [[key, *values] for key, values in rows.items()],
    )


def _containers(serving: str) -> str:
    config = _config(serving)["services"]
    rows = []
    for title, read in (
        ("image", lambda s: s["image"]),
        ("user", lambda s: s["user"]),
        ("root filesystem", lambda s: "read-only" if s.get("read_only") else "writable"),
        ("capabilities", lambda s: "none" if s.get("cap_drop") == ["ALL"] else "default"),
        ("privileges", lambda s: " ".join(s.get("security_opt", []))),
        ("init", lambda s: "yes" if s.get("init") else "no"),
        ("networks", lambda s: " ".join(sorted(s["networks"]))),
        (
            "published",
            lambda s: (
                " ".join(f"{p['host_ip']}:{p['published']}" for p in s.get("ports", []))
                or "nothing"
            ),
        ),
        (
            "mounts",
            lambda s: " ".join(
                f"{v['target']}{'' if v.get('read_only') else ' (written)'}" for v in s["volumes"]
            ),
        ),
        (
            "waits for",
            lambda s: (
                " ".join(f"{n}: {d['condition']}" for n, d in s.get("depends_on", {}).items())
                or "nothing"
            ),
        ),
        ("restart", lambda s: s["restart"]),
        ("GPU", lambda s: "reserved" if _devices(s) else "no"),
        ("log", lambda s: "{max-file} x {max-size}".format(**s["logging"]["options"])),
    ):
        rows.append([title, *(read(config[name]) for name in _SERVICES)])
    return _table(["", *_SERVICES], rows)


def _devices(service: dict[str, Any]) -> list[Any]:
    found: list[Any] = (
        service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
    )
    return found


def _config(serving: str) -> dict[str, Any]:
    # Of this machine only what finds the engine: the page shows the defaults.
    environ = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "HOME") or name.startswith("DOCKER_")
    }
    command = [*compose_command(serving), "--env-file", os.devnull, "config", "--format", "json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _code(words: list[str] | None) -> str:
    return f"`{' '.join(words)}`" if words else "none"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"
