"""headrace doctor: what is missing or wrong on this machine, in the store and in the config, each
finding with its remedy."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.protocol.errors import ConfigError, HeadraceError, NotFound
from headrace.store import folders, model_list
from headrace.store.model_list import ModelConfig

# TensorFlow has wheels for these versions and those between.
OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 13)
PORTS = {
    "HEADRACE_HTTP_PORT": 8000,
    "HEADRACE_GRPC_PORT": 8001,
    "HEADRACE_SERVING_GRPC_PORT": 8500,
    "HEADRACE_SERVING_REST_PORT": 8501,
}
_TIMEOUT_S = 5.0
_DOCKER_VERSION = ("docker", "info", "--format", "{{.ServerVersion}}")
_NOT_NEEDED = "the local runtime needs none"


@dataclass(frozen=True, slots=True)
class Finding:
    """``advice`` is what to do about a problem; None means nothing is wrong."""

    subject: str
    text: str
    advice: str | None = None

    @property
    def is_problem(self) -> bool:
        return self.advice is not None

    def __str__(self) -> str:
        if self.advice is None:
            return f"{'ok':8}{self.subject:12}{self.text}"
        return f"{'problem':8}{self.subject:12}{self.text}\n{'':20}-> {self.advice}"


def examine(config: Path, store: Path, environ: Mapping[str, str]) -> list[Finding]:
    return [
        check_python(sys.version_info[:2]),
        check_venv(),
        check_make(),
        check_engine(),
        check_ports(environ),
        check_tensorflow(),
        *check_config(config, store),
        *check_store(store),
        *check_server(environ),
        *check_gateway(environ),
    ]


def check_python(version: tuple[int, int]) -> Finding:
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return Finding("python", _dotted(version))
    advice = (
        f"install Python {_dotted(OLDEST_PYTHON)} to {_dotted(NEWEST_PYTHON)}; TensorFlow has no "
        "wheels for this version"
    )
    return Finding("python", _dotted(version), advice)


def check_venv() -> Finding:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if not missing:
        return Finding("venv", "there")
    advice = f"apt-get install python{_dotted(sys.version_info[:2])}-venv, or the like"
    return Finding("venv", f"Python has no {' and '.join(missing)}", advice)


def check_make() -> Finding:
    path = shutil.which("make")
    if path is None:
        return Finding("make", "not found", "apt-get install make, or the like")
    return Finding("make", path)


def check_engine() -> Finding:
    """Never a problem: the local runtime does the same without a Docker engine."""
    if shutil.which("docker") is None:
        return Finding("engine", f"no docker command; {_NOT_NEEDED}")
    try:
        result = subprocess.run(
            _DOCKER_VERSION,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Finding("engine", f"docker did not answer within {_TIMEOUT_S:g} s; {_NOT_NEEDED}")
    version = result.stdout.strip()
    if result.returncode or not version:
        return Finding("engine", f"no Docker engine answers; {_NOT_NEEDED}")
    return Finding("engine", f"Docker {version} answers; RUNTIME=local does without it")


def check_ports(environ: Mapping[str, str]) -> Finding:
    try:
        ports = {name: int(environ.get(name) or default) for name, default in PORTS.items()}
        taken = {name: port for name, port in ports.items() if _is_taken(port)}
    except (ValueError, OverflowError):
        text = "a HEADRACE_*_PORT variable is not a port"
        return Finding("ports", text, "set it to a number from 1 to 65535")
    if not taken:
        return Finding("ports", f"{', '.join(map(str, ports.values()))} are free")
    http_port = ports["HEADRACE_HTTP_PORT"]
    if _is_gateway(http_port):
        return Finding("ports", f"a gateway answers on {http_port}: the stack is up")
    listed = ", ".join(f"{port} ({name})" for name, port in taken.items())
    first = next(iter(taken))
    advice = f"stop the programs on them, or choose other ports: make up {first}=PORT"
    return Finding("ports", f"taken: {listed}", advice)


def check_tensorflow() -> Finding:
    """Looks for TensorFlow's library, the server's engine, without loading it."""
    try:
        from headrace.server.engines import capi

        return Finding("tensorflow", str(capi.library_path()))
    except (HeadraceError, ImportError) as error:
        advice = "`make up` installs it, or pip install '.[server]' in a checkout of Headrace"
        return Finding("tensorflow", str(error), advice)


def check_config(config: Path, store: Path) -> list[Finding]:
    try:
        models = model_list.load(config).models
    except ConfigError as error:
        # The message starts with file:line:column, which editors understand.
        advice = "correct it there, or name another config with --config"
        return [Finding("config", error.message, advice)]
    if not models:
        advice = "add one; the first lines of the file show the format"
        return [Finding("config", f"{config} lists no model", advice)]
    names = ", ".join(model.name for model in models)
    return [Finding("config", f"{config} lists {names}"), *_missing_versions(models, store)]


def check_store(store: Path) -> list[Finding]:
    if not store.is_dir():
        advice = "run this in the project's folder, or name the store with --store"
        return [Finding("store", f"{store} is not a folder", advice)]
    if not os.access(store, os.W_OK | os.X_OK):
        advice = f"sudo chown -R $(id -u):$(id -g) {store}"
        return [Finding("store", f"{store} cannot be written", advice)]
    latest: list[str] = []
    incomplete: list[Finding] = []
    for folder in sorted(store.iterdir()):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        versions = folders.versions(folder)
        if versions:
            latest.append(f"{folder.name} {versions[-1]}")
        incomplete.extend(_incomplete_versions(folder, versions))
    return [Finding("store", f"{store}: {', '.join(latest) or 'no model yet'}"), *incomplete]


def check_server(environ: Mapping[str, str]) -> list[Finding]:
    """Whether a server answers at HEADRACE_URL, if that is set."""
    url = environ.get("HEADRACE_URL")
    if not url:
        return []
    from headrace import client

    try:
        with client.Client(url, timeout_s=_TIMEOUT_S) as server:
            server.status("-")
    except NotFound:
        # The server answers that it has no model of this name.
        pass
    except HeadraceError as error:
        advice = "start it, or set HEADRACE_URL to the address of another server"
        return [Finding("server", error.message, advice)]
    return [Finding("server", f"a server answers at {url}")]


def check_gateway(environ: Mapping[str, str]) -> list[Finding]:
    """The problems a running gateway reports of its models; none if no gateway runs."""
    port = environ.get("HEADRACE_HTTP_PORT") or PORTS["HEADRACE_HTTP_PORT"]
    body = _get(f"http://127.0.0.1:{port}/v1/models")
    findings = []
    try:
        for model in json.loads(body)["models"]:
            name, reason = model["name"], model["reason"]
            if reason:
                advice = (
                    "publish a version that loads, or delete the one that does not; "
                    f"`make rollback MODEL={name}` pins an older one"
                )
                findings.append(Finding("model", f"{name}: {reason}", advice))
    except (ValueError, LookupError, TypeError):
        # Another program, or none, answers on this port.
        return []
    return findings


def _missing_versions(models: Sequence[ModelConfig], store: Path) -> Iterator[Finding]:
    for model in models:
        if "://" in model.base_path:
            continue
        folder = folders.local_path(model.base_path, store)
        if not folders.versions(folder):
            advice = (
                f"`python -m trainer train {model.name}` makes one, or put a SavedModel into "
                f"{folder}/1"
            )
            yield Finding("model", f"{model.name} has no version in {folder}", advice)


def _incomplete_versions(folder: Path, versions: Sequence[int]) -> Iterator[Finding]:
    for version in versions:
        path = folders.version_path(folder, version)
        if not folders.is_complete(path):
            advice = "wait for the copy to end; if none is under way, delete the folder"
            yield Finding("version", f"{path} is not a complete SavedModel", advice)


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _is_gateway(port: int) -> bool:
    return b'"alive"' in _get(f"http://127.0.0.1:{port}/livez")


def _get(url: str) -> bytes:
    """The body of the answer; empty if there is none."""
    # This machine is not reached through a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as response:
            body: bytes = response.read()
            return body
    except (OSError, ValueError, http.client.HTTPException):
        return b""
