"""Which runtime `make up` uses, and which server in it: decided once, with one line of reason."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.terminal import Stop, say

ROOT = Path(__file__).resolve().parents[2]
RUNTIMES = ("compose", "local")
OVERRIDES = {
    "gpu": (),
    "cpu": ("compose.cpu.yml",),
    "embedded": ("compose.embedded.yml",),
}


class Engine(Protocol):
    @property
    def fault(self) -> str | None: ...
    @property
    def architecture(self) -> str: ...
    @property
    def gpu(self) -> str | None: ...
    def has_image(self, image: str) -> bool: ...
    def pull(self, image: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """``serving`` is gpu, cpu or embedded in compose, empty in the local runtime."""

    runtime: str
    serving: str
    why: str

    @property
    def files(self) -> tuple[Path, ...]:
        names = ("docker-compose.yml", *OVERRIDES[self.serving])
        return tuple(ROOT / name for name in names)

    def __str__(self) -> str:
        name = self.runtime
        if self.serving:
            name += f" ({self.serving})"
        return f"{name}: {self.why}"


def choose(environ: Mapping[str, str], engine: Engine) -> Choice:
    """RUNTIME and SERVING as they are set, else what fits.

    Pulls TensorFlow Serving's image if that is to run.
    """
    runtime = _one_of(environ, "RUNTIME", RUNTIMES)
    serving = _one_of(environ, "SERVING", tuple(OVERRIDES))
    if runtime == "local" and serving:
        raise Stop(
            f"SERVING={serving} is a choice of the compose runtime, and RUNTIME=local was asked "
            "for: drop one of them."
        )
    if runtime == "local":
        return Choice("local", "", "RUNTIME=local asks for it")
    if engine.fault:
        if runtime or serving:
            setting = f"SERVING={serving}"
            if runtime:
                setting = "RUNTIME=compose"
            raise Stop(f"{setting} needs a Docker engine with Compose, but {engine.fault}.")
        return Choice("local", "", engine.fault)
    return _choose_serving(serving, serving_version(environ), engine)


def serving_version(environ: Mapping[str, str]) -> str:
    """The tag of TensorFlow Serving's image. An older server may not load what is trained here."""
    pinned = pinned_tensorflow()
    version = environ.get("TF_SERVING_VERSION") or pinned
    minor = _minor(version)
    oldest = _minor(pinned)
    if minor and minor < oldest:
        oldest_text = ".".join(map(str, oldest))
        raise Stop(
            f"TF_SERVING_VERSION={version} is older than the TensorFlow that trains the models "
            f"here ({pinned}), and may not load them. "
            f"Set {oldest_text} or newer, or leave it unset."
        )
    return version


def pinned_tensorflow(pyproject: Path = ROOT / "pyproject.toml") -> str:
    """The version that pyproject.toml pins."""
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = project["optional-dependencies"]
    versions = set()
    for line in extras["tensorflow"]:
        match = re.match(r"tensorflow(?:-cpu)?==([\d.]+)", line)
        if match:
            versions.add(match[1])
    if len(versions) != 1:
        raise Stop(
            f"{pyproject.name} should pin one TensorFlow in its extra of that name; "
            f"found {sorted(versions)}."
        )
    return versions.pop()


def _choose_serving(setting: str, version: str, engine: Engine) -> Choice:
    """``setting`` is SERVING, or "" where that is not set."""
    if setting == "embedded":
        return Choice("compose", "embedded", "SERVING=embedded asks for it")
    if setting:
        serving = setting
        why = f"SERVING={setting} asks for it"
    elif engine.architecture not in ("x86_64", "amd64"):
        why = f"TensorFlow Serving's image is not made for {engine.architecture}"
        return Choice("compose", "embedded", why)
    elif engine.gpu:
        serving = "gpu"
        why = f"an engine answers and has {engine.gpu}"
    else:
        serving = "cpu"
        why = "an engine answers, without a GPU to hand out"

    image = f"tensorflow/serving:{version}"
    if serving == "gpu":
        image += "-gpu"
    if engine.has_image(image):
        return Choice("compose", serving, f"{why}; {image} is here")
    say(f"{image} is not here; asking the registry for it ...")
    fault = engine.pull(image)
    if fault is None:
        return Choice("compose", serving, f"{why}; {image} came from the registry")
    missing = f"{image} is neither here nor to be had from the registry ({fault})"
    if setting:
        raise Stop(
            f"{missing}. TF_SERVING_VERSION chooses another version; "
            "SERVING=embedded does without the image."
        )
    return Choice("compose", "embedded", f"{missing}; TF_SERVING_VERSION chooses another version")


def _one_of(environ: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    value = environ.get(name, "")
    if value and value not in allowed:
        raise Stop(f"{name}={value}: expected {', '.join(allowed[:-1])} or {allowed[-1]}.")
    return value


def _minor(version: str) -> tuple[int, ...]:
    """(2, 20) for "2.20.0"; () for a name like "latest", which cannot be compared."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else ()
