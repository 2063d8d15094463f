"""What the running stack serves, as its gateway says, and waiting until it serves what was asked for."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from headrace.wire.config import ModelConfig
from trainer.errors import NotLive

_ASK_S = 5.0
_PAUSE_S = 0.1
# A version that failed before is told as failed until the server has tried it anew.
_FAILED_FOR_S = 5.0


@dataclass(frozen=True, slots=True)
class Served:
    """One model as the gateway sees it: ``default`` answers calls that name no version, ``reasons`` say what failed.

    ``trouble`` is the gateway's sentence about the model as a whole; empty when nothing is wrong.
    """

    default: int | None
    available: frozenset[int]
    labels: dict[str, int]
    reasons: dict[int, str]
    trouble: str


def ask(gateway: str, name: str) -> Served | None:
    """None when there is no gateway of ours at that address, or it does not know the model."""
    return ask_all(gateway).get(name)


def ask_all(gateway: str) -> dict[str, Served]:
    """Every model that the gateway knows; empty when there is none of ours at that address."""
    try:
        with urllib.request.urlopen(f"{gateway}/v1/models", timeout=_ASK_S) as answer:
            models: list[dict[str, Any]] = json.load(answer)["models"]
        return {model["name"]: _served(model) for model in models}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def answers(gateway: str) -> bool:
    try:
        with urllib.request.urlopen(f"{gateway}/livez", timeout=_ASK_S) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def labels_answer(gateway: str, model: ModelConfig) -> bool:
    """Whether the servers themselves take each label for its version: the gateway's list is only what was rendered."""
    return all(_answers_as(gateway, model.name, label, version) for label, version in model.labels.items())


def wait(gateway: str, model: ModelConfig, *, serves: frozenset[int], timeout_s: float) -> None:
    """Until the model is served as its entry says, in ``serves`` and no others. Raises NotLive with the reason."""
    began = time.monotonic()
    failed_since: dict[int, float] = {}
    while told := _difference(served := ask(gateway, model.name), model, serves, gateway):
        now = time.monotonic()
        failed = {v: why for v, why in served.reasons.items() if v in serves - served.available} if served else {}
        failed_since = {version: failed_since.get(version, now) for version in failed}
        for version, since in failed_since.items():
            if now - since > _FAILED_FOR_S:
                raise NotLive(f"{model.name} version {version} failed to load: {failed[version]}")
        if now - began > timeout_s:
            raise NotLive(f"{model.name} is not as wanted after {timeout_s:g} s: {told}")
        time.sleep(_PAUSE_S)


def _served(model: dict[str, Any]) -> Served:
    versions = model["versions"]
    return Served(
        default=model["default_version"],
        available=frozenset(v["version"] for v in versions if v["state"] == "AVAILABLE"),
        labels=dict(model["labels"]),
        reasons={v["version"]: v["reason"] for v in versions if v["reason"]},
        trouble=str(model["reason"]),
    )


def _difference(served: Served | None, model: ModelConfig, serves: frozenset[int], gateway: str) -> str:
    """What is not as it should be yet; empty when all is."""
    if served is None:
        return f"{gateway} does not answer for it"
    if missing := sorted(serves - served.available):
        return f"version {missing[0]} is not AVAILABLE"
    if left := sorted(served.available - serves):
        return f"version {left[0]} is still served"
    if served.labels != dict(model.labels):
        return "its labels are not what they should be"
    return "" if labels_answer(gateway, model) else "a label does not answer yet"


def _answers_as(gateway: str, name: str, label: str, version: int) -> bool:
    # A model's status takes no notice of a label; its metadata is that of the version the label stands for.
    url = f"{gateway}/v1/models/{quote(name, safe='')}/labels/{quote(label, safe='')}/metadata"
    try:
        with urllib.request.urlopen(url, timeout=_ASK_S) as answer:
            return int(json.load(answer)["model_spec"]["version"]) == version
    except (OSError, ValueError, LookupError):
        return False
