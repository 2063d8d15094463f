"""What this machine's Docker can do, by its command line. Asks questions, and pulls images."""

from __future__ import annotations

import json
import re
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
        command = ["docker", "image", "inspect", "--format", "{{.Id}}", image]
        return _run(command).returncode == 0

    def pull(self, image: str) -> str | None:
        """Pull through the engine, with its mirrors and login; returns what went wrong."""
        pull = subprocess.run(
            ["docker", "pull", image],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if pull.returncode == 0:
            return None
        last_line = _last_line(pull.stderr)
        return last_line.rpartition(": ")[2]


def look() -> Engine:
    if shutil.which("docker") is None:
        return Engine(fault="there is no docker command")

    answer = _run(["docker", "info", "--format", "{{json .}}"])
    info = _json(answer.stdout)
    errors = info.get("ServerErrors") or []
    if answer.returncode or errors or not info.get("ServerVersion"):
        reason = _last_line(answer.stderr)
        if errors:
            reason = errors[0]
        return Engine(fault=f"no Docker engine answers ({reason})")

    compose = _run(["docker", "compose", "version", "--short"])
    if compose.returncode:
        return Engine(fault="docker has no compose plugin (Compose v2)")
    version = compose.stdout.strip()
    if _version(version) < (2, 24):
        # 2.24 brought `!reset`, which the CPU and embedded overrides are written with.
        return Engine(fault=f"Docker Compose is {version}, 2.24 or newer is needed")

    architecture = str(info.get("Architecture", ""))
    return Engine(architecture=architecture, gpu=_gpu(info))


def folders_of(project: str) -> list[str]:
    """The folders that the containers of a project of `docker compose` were started from."""
    command = [
        "docker",
        "ps",
        "--all",
        "--filter",
        f"label=com.docker.compose.project={project}",
        "--format",
        '{{.Label "com.docker.compose.project.working_dir"}}',
    ]
    listed = _run(command)
    folders = set(listed.stdout.splitlines())
    # A container without the label.
    folders.discard("")
    return sorted(folders)


def _gpu(info: dict[str, Any]) -> str | None:
    """The first GPU; None unless the engine can hand one out and there is a card."""
    if not _has_nvidia_toolkit(info) or shutil.which("nvidia-smi") is None:
        return None
    listed = _run(["nvidia-smi", "-L"])
    if listed.returncode or not listed.stdout.startswith("GPU "):
        return None
    first_gpu = listed.stdout.splitlines()[0]
    name = first_gpu.partition("(UUID")[0]
    return name.strip()


def _has_nvidia_toolkit(info: dict[str, Any]) -> bool:
    """With NVIDIA's toolkit the engine can hand out GPUs, whether there is a card or not."""
    if "nvidia" in (info.get("Runtimes") or {}):
        return True
    if shutil.which("nvidia-container-runtime-hook") is not None:
        return True
    for device in info.get("DiscoveredDevices") or []:
        if "nvidia.com/gpu" in str(device.get("ID", "")):
            return True
    return False


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
        )
    except subprocess.TimeoutExpired:
        reason = f"no answer within {_ANSWER_S:g} s"
        return subprocess.CompletedProcess(command, 124, "", reason)


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    return value


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    if not lines:
        return "no reason given"
    return lines[-1].strip().rstrip(".")


def _version(text: str) -> tuple[int, ...]:
    """Major and minor: v2.24.6-desktop.1 is (2, 24)."""
    release = re.split(r"[-+]", text.removeprefix("v"))[0]
    numbers = []
    for part in release.split(".")[:2]:
        if part.isdigit():
            numbers.append(int(part))
    return tuple(numbers)
