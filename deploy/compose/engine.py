"""What this machine's Docker can do, by its command line. Asks questions, and pulls images."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

# An engine that is starting or over ssh may be slow; a dead one says so at once.
_ANSWER_S = 20.0


@dataclass(frozen=True, slots=True)
class Engine:
    # Why containers cannot be run here; None when they can.
    fault: str | None = None
    architecture: str = ""
    # What a GPU reservation would get.
    gpu: str | None = None

    def has_image(self, image: str) -> bool:
        return _run(["docker", "image", "inspect", "--format", "{{.Id}}", image]).returncode == 0

    def pull(self, image: str) -> str | None:
        """Pull through the engine, with its mirrors and login; returns what went wrong."""
        pull = subprocess.run(
            ["docker", "pull", image], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if pull.returncode == 0:
            return None
        return _last_line(pull.stderr).rsplit(": ", 1)[-1]


def look() -> Engine:
    if shutil.which("docker") is None:
        return Engine(fault="there is no docker command")
    answer = _run(["docker", "info", "--format", "{{json .}}"])
    info = _json(answer.stdout)
    errors = info.get("ServerErrors") or []
    if answer.returncode or errors or not info.get("ServerVersion"):
        reason = errors[0] if errors else _last_line(answer.stderr)
        return Engine(fault=f"no Docker engine answers ({reason})")
    compose = _run(["docker", "compose", "version", "--short"])
    if compose.returncode:
        return Engine(fault="docker has no compose plugin (Compose v2)")
    if _version(compose.stdout) < (2, 24):
        # 2.24 brought `!reset`, which the CPU and embedded overrides are written with.
        return Engine(fault=f"Docker Compose is {compose.stdout.strip()}, 2.24 or newer is needed")
    return Engine(architecture=str(info.get("Architecture", "")), gpu=_gpu(info))


def folders_of(project: str) -> list[str]:
    """The folders that the containers of a project of `docker compose` were started from."""
    label = 'Label "com.docker.compose.project.working_dir"'
    command = ["docker", "ps", "--all", "--filter", f"label=com.docker.compose.project={project}"]
    listed = _run([*command, "--format", f"{{{{.{label}}}}}"])
    return sorted({line for line in listed.stdout.splitlines() if line})


def _gpu(info: dict[str, Any]) -> str | None:
    """The first GPU; None unless the engine can hand one out and there is a card."""
    if not _has_nvidia_toolkit(info) or shutil.which("nvidia-smi") is None:
        return None
    listed = _run(["nvidia-smi", "-L"])
    if listed.returncode or not listed.stdout.startswith("GPU "):
        return None
    return listed.stdout.splitlines()[0].split("(UUID")[0].strip()


def _has_nvidia_toolkit(info: dict[str, Any]) -> bool:
    """With NVIDIA's toolkit the engine can hand out GPUs, whether there is a card or not."""
    if "nvidia" in (info.get("Runtimes") or {}):
        return True
    if shutil.which("nvidia-container-runtime-hook") is not None:
        return True
    devices = info.get("DiscoveredDevices") or []
    return any("nvidia.com/gpu" in str(device.get("ID", "")) for device in devices)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ANSWER_S
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer within {_ANSWER_S:g} s")


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no reason given"


def _version(text: str) -> tuple[int, ...]:
    numbers = text.strip().removeprefix("v").split("-")[0].split("+")[0].split(".")
    return tuple(int(n) for n in numbers[:2] if n.isdigit())
