"""Which runtime `make up` uses, and which server in it: decided once, with one line of why."""

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
OVERRIDES = {"gpu": (), "cpu": ("compose.cpu.yml",), "embedded": ("compose.embedded.yml",)}


class Engine(Protocol):
    @property
    def fault(self) -> str: ...
    @property
    def architecture(self) -> str: ...
    @property
    def gpu(self) -> str: ...
    def has_image(self, image: str) -> bool: ...
    def pull(self, image: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """``serving`` is gpu, cpu or embedded in compose, empty in the local runtime."""

    runtime: str
    serving: str
    why: str

    @property
    def files(self) -> tuple[Path, ...]:
        return (ROOT / "docker-compose.yml", *(ROOT / name for name in OVERRIDES[self.serving]))

    def __str__(self) -> str:
        name = f"{self.runtime} ({self.serving})" if self.serving else self.runtime
        return f"{name}: {self.why}"


def choose(environ: Mapping[str, str], engine: Engine) -> Choice:
    """RUNTIME and SERVING as they are set, else what fits. Pulls TensorFlow Serving's image if it
    is to run."""
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
            asked = "RUNTIME=compose" if runtime else f"SERVING={serving}"
            raise Stop(f"{asked} needs a Docker engine with Compose, but {engine.fault}.")
        return Choice("local", "", engine.fault)
    return _choose_serving(serving, serving_version(environ), engine)


def serving_version(environ: Mapping[str, str]) -> str:
    """The tag of TensorFlow Serving's image. An older server may not load what is trained here."""
    pinned = pinned_tensorflow()
    version = environ.get("TF_SERVING_VERSION") or pinned
    if _minor(version) and _minor(version) < _minor(pinned):
        raise Stop(
            f"TF_SERVING_VERSION={version} is older than the TensorFlow that trains the models "
            f"here ({pinned}), and "
            f"may not load them. Set {'.'.join(map(str, _minor(pinned)))} or newer, or leave it "
            "unset."
        )
    return version


def pinned_tensorflow(pyproject: Path = ROOT / "pyproject.toml") -> str:
    """The one version in the project, from where it is written."""
    lines = tomllib.loads(pyproject.read_text())["project"]["optional-dependencies"]["tensorflow"]
    found = {m[1] for line in lines if (m := re.match(r"tensorflow(?:-cpu)?==([\d.]+)", line))}
    if len(found) != 1:
        raise Stop(
            f"{pyproject.name} should pin one TensorFlow in its extra of that name; found "
            f"{sorted(found)}."
        )
    return found.pop()


def _choose_serving(asked: str, version: str, engine: Engine) -> Choice:
    if asked == "embedded":
        return Choice("compose", "embedded", "SERVING=embedded asks for it")
    if not asked and engine.architecture not in ("x86_64", "amd64"):
        return Choice(
            "compose",
            "embedded",
            f"TensorFlow Serving's image is not made for {engine.architecture}",
        )
    serving = asked or ("gpu" if engine.gpu else "cpu")
    if asked:
        why = f"SERVING={asked} asks for it"
    else:
        why = (
            f"an engine answers and has {engine.gpu}"
            if engine.gpu
            else "an engine answers, without a GPU to hand out"
        )
    image = f"tensorflow/serving:{version}" + ("-gpu" if serving == "gpu" else "")
    if engine.has_image(image):
        return Choice("compose", serving, f"{why}; {image} is here")
    say(f"{image} is not here; asking the registry for it ...")
    refusal = engine.pull(image)
    if not refusal:
        return Choice("compose", serving, f"{why}; {image} came from the registry")
    missing = f"{image} is neither here nor to be had from the registry ({refusal})"
    if asked:
        raise Stop(
            f"{missing}. TF_SERVING_VERSION chooses another version; SERVING=embedded does "
            "without the image."
        )
    return Choice("compose", "embedded", f"{missing}; TF_SERVING_VERSION chooses another version")


def _one_of(environ: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    value = environ.get(name, "")
    if value and value not in allowed:
        raise Stop(f"{name}={value}: expected {', '.join(allowed[:-1])} or {allowed[-1]}.")
    return value


def _minor(version: str) -> tuple[int, ...]:
    """(2, 20) of "2.20.0"; () of a name like "latest", which cannot be compared."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else ()
