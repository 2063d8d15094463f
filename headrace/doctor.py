"""headrace doctor: what this machine, the store and the config are short of, each with what to do
about it."""

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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.protocol.errors import ConfigError, HeadraceError, NotFound
from headrace.store import folders as stores
from headrace.store import model_list as configs

# The oldest and the newest that TensorFlow has wheels for.
PYTHONS = ((3, 11), (3, 13))
PORTS = {
    "HEADRACE_HTTP_PORT": 8000,
    "HEADRACE_GRPC_PORT": 8001,
    "HEADRACE_SERVING_GRPC_PORT": 8500,
    "HEADRACE_SERVING_REST_PORT": 8501,
}
_ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """``advice`` is what to do; empty when all is well."""

    about: str
    found: str
    advice: str = ""

    @property
    def is_problem(self) -> bool:
        return bool(self.advice)

    def __str__(self) -> str:
        line = f"{'problem' if self.is_problem else 'ok':8}{self.about:12}{self.found}"
        return f"{line}\n{'':20}-> {self.advice}" if self.is_problem else line


def examine(config: Path, store: Path, environ: Mapping[str, str]) -> list[Finding]:
    return [
        python(sys.version_info[:2]),
        venv(),
        make(),
        engine(),
        ports(environ),
        tensorflow(),
        *the_config(config, store),
        *the_store(store),
        *the_server(environ),
        *the_gateway(environ),
    ]


def python(version: tuple[int, int]) -> Finding:
    found = f"{version[0]}.{version[1]}"
    oldest, newest = ("{}.{}".format(*p) for p in PYTHONS)
    if PYTHONS[0] <= version <= PYTHONS[1]:
        return Finding("python", found)
    return Finding(
        "python",
        found,
        f"install Python {oldest} to {newest}; TensorFlow has no wheels for this one",
    )


def venv() -> Finding:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if not missing:
        return Finding("venv", "there")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Finding(
        "venv",
        f"Python has no {' and '.join(missing)}",
        f"apt-get install python{version}-venv, or the like",
    )


def make() -> Finding:
    path = shutil.which("make")
    return (
        Finding("make", path)
        if path
        else Finding("make", "not found", "apt-get install make, or the like")
    )


def engine() -> Finding:
    """Never a problem: without an engine the local runtime does the same."""
    if shutil.which("docker") is None:
        return Finding("engine", "no docker command; the local runtime needs none")
    command = ["docker", "info", "--format", "{{.ServerVersion}}"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_ANSWER_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return Finding(
            "engine", f"docker gave no answer in {_ANSWER_S:g} s; the local runtime needs none"
        )
    if answer.returncode or not answer.stdout.strip():
        return Finding("engine", "no Docker engine answers; the local runtime needs none")
    return Finding(
        "engine", f"Docker {answer.stdout.strip()} answers; RUNTIME=local does without it"
    )


def ports(environ: Mapping[str, str]) -> Finding:
    try:
        wanted = {name: int(environ.get(name) or port) for name, port in PORTS.items()}
        taken = {name: port for name, port in wanted.items() if _is_taken(port)}
    except (ValueError, OverflowError):
        return Finding(
            "ports", "a HEADRACE_*_PORT variable is no port", "set it to a number from 1 to 65535"
        )
    listed = ", ".join(map(str, wanted.values()))
    if not taken:
        return Finding("ports", f"{listed} are free")
    if _is_gateway(wanted["HEADRACE_HTTP_PORT"]):
        return Finding(
            "ports", f"a gateway answers on {wanted['HEADRACE_HTTP_PORT']}: the stack is up"
        )
    busy = ", ".join(f"{port} ({name})" for name, port in taken.items())
    return Finding(
        "ports",
        f"taken: {busy}",
        f"stop what listens there, or choose: make up {next(iter(taken))}=PORT",
    )


def tensorflow() -> Finding:
    """The server's engine is TensorFlow's library; it is found, not loaded."""
    try:
        from headrace.server.engines import capi

        return Finding("tensorflow", str(capi.library_path()))
    except (HeadraceError, ImportError) as error:
        return Finding(
            "tensorflow",
            str(error),
            "`make up` brings it, or pip install '.[server]' in a checkout of Headrace",
        )


def the_config(config: Path, store: Path) -> list[Finding]:
    try:
        models = configs.load(config).models
    except ConfigError as error:
        # What stands before the advice is file:line:column, which editors understand.
        return [Finding("config", error.message, "mend it there, or name another with --config")]
    if not models:
        return [
            Finding(
                "config",
                f"{config} lists no model",
                "add one; the format is in the file's own first lines",
            )
        ]
    findings = [Finding("config", f"{config} lists {', '.join(m.name for m in models)}")]
    for model in models:
        if "://" in model.base_path:
            continue
        folder = stores.local_path(model.base_path, store)
        if not stores.versions(folder):
            advice = (
                f"`python -m trainer train {model.name}` makes one, or put a SavedModel into "
                f"{folder}/1"
            )
            findings.append(Finding("model", f"{model.name} has no version in {folder}", advice))
    return findings


def the_store(store: Path) -> list[Finding]:
    if not store.is_dir():
        return [
            Finding(
                "store",
                f"{store} is no folder",
                "run this where the project is, or name it with --store",
            )
        ]
    if not os.access(store, os.W_OK | os.X_OK):
        return [
            Finding(
                "store", f"{store} cannot be written", f"sudo chown -R $(id -u):$(id -g) {store}"
            )
        ]
    findings = []
    counts = []
    for folder in sorted(p for p in store.iterdir() if p.is_dir() and not p.name.startswith(".")):
        numbers = stores.versions(folder)
        if numbers:
            counts.append(f"{folder.name} {numbers[-1]}")
        for number in numbers:
            path = stores.version_path(folder, number)
            if not stores.is_complete(path):
                advice = "wait for the copy to end; if none is under way, delete the folder"
                findings.append(Finding("version", f"{path} is not a whole SavedModel", advice))
    return [Finding("store", f"{store}: {', '.join(counts) or 'no model yet'}"), *findings]


def the_gateway(environ: Mapping[str, str]) -> list[Finding]:
    """What a running gateway says of its models; nothing where none runs."""
    port = environ.get("HEADRACE_HTTP_PORT") or PORTS["HEADRACE_HTTP_PORT"]
    body = _ask(f"http://127.0.0.1:{port}/v1/models")
    try:
        troubled = {
            model["name"]: model["reason"]
            for model in json.loads(body)["models"]
            if model["reason"]
        }
    except (ValueError, LookupError, TypeError):
        return []
    advice = (
        "publish a version that loads, or delete the one that does not; `make rollback "
        "MODEL={}` pins an older one"
    )
    return [
        Finding("model", f"{name}: {reason}", advice.format(name))
        for name, reason in troubled.items()
    ]


def the_server(environ: Mapping[str, str]) -> list[Finding]:
    """What answers at HEADRACE_URL, where the command line is sent there."""
    url = environ.get("HEADRACE_URL")
    if not url:
        return []
    from headrace import client

    try:
        with client.Client(url, timeout_s=_ANSWER_S) as asked:
            asked.status("-")
    except NotFound:
        # There is no model of this name, and somebody to say so.
        pass
    except HeadraceError as error:
        return [
            Finding(
                "server", error.message, "start it, or set HEADRACE_URL to the server that you mean"
            )
        ]
    return [Finding("server", f"a server answers at {url}")]


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _is_gateway(port: int) -> bool:
    return b'"alive"' in _ask(f"http://127.0.0.1:{port}/livez")


def _ask(url: str) -> bytes:
    """What is answered there; empty when nobody does."""
    # This machine is no matter for a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_ANSWER_S) as answer:
            body: bytes = answer.read()
            return body
    except (OSError, ValueError, http.client.HTTPException):
        return b""
