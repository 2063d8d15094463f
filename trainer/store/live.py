"""What the running stack serves, as its gateway says, and waiting until it serves what was asked
for."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.protocol import rest_paths
from headrace.protocol.model_spec import ModelSpec
from headrace.store.model_list import ModelConfig
from trainer.errors import NotLive

_ASK_S = 5.0
_PAUSE_S = 0.1
# A version that failed before is told as failed until the server has tried it anew.
_FAILED_FOR_S = 5.0
# A model that the server does not know may be one that it has not read from the list yet.
_UNKNOWN_FOR_S = 10.0


@dataclass(frozen=True, slots=True)
class Served:
    """One model as the gateway sees it: ``default`` answers calls that name no version, ``reasons``
    say what failed.

    ``trouble`` is the gateway's sentence about the model as a whole; empty when nothing is wrong.
    """

    default: int | None
    available: frozenset[int]
    labels: dict[str, int]
    reasons: dict[int, str]
    trouble: str
    loading: bool


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


def _served(model: dict[str, Any]) -> Served:
    versions = model["versions"]
    return Served(
        default=model["default_version"],
        available=frozenset(v["version"] for v in versions if v["state"] == "AVAILABLE"),
        labels=dict(model["labels"]),
        reasons={v["version"]: v["reason"] for v in versions if v["reason"]},
        trouble=str(model["reason"]),
        loading=bool(model.get("loading")),
    )


def answers(gateway: str) -> bool:
    try:
        with urllib.request.urlopen(f"{gateway}/livez", timeout=_ASK_S) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def labels_answer(gateway: str, model: ModelConfig) -> bool:
    """Whether the servers themselves take each label for its version: the gateway's list is only
    what was rendered."""
    return all(
        _answers_as(gateway, model.name, label, version) for label, version in model.labels.items()
    )


@dataclass(frozen=True, slots=True)
class Expected:
    """A model's entry, and the versions it will be served in; None where its folder cannot be seen
    from here."""

    model: ModelConfig
    serves: frozenset[int] | None


def wait(
    gateway: str, expected: Sequence[Expected], *, timeout_s: float, alone: bool = False
) -> None:
    """Until each model is served as its entry says; ``alone``: and no others. Raises NotLive once
    that cannot be."""
    began = time.monotonic()
    failing_since: dict[str, float] = {}
    while difference := _first_difference(
        running := ask_all(gateway), expected, gateway, alone=alone
    ):
        now = time.monotonic()
        failures = dict(
            filter(None, (_failure(running.get(each.model.name), each) for each in expected))
        )
        failing_since = {words: failing_since.get(words, now) for words in failures}
        for words, since in failing_since.items():
            if now - since > failures[words]:
                raise NotLive(words)
        if now - began > timeout_s:
            raise NotLive(f"not as wanted after {timeout_s:g} s: {difference}")
        time.sleep(_PAUSE_S)


def _first_difference(
    running: Mapping[str, Served], expected: Sequence[Expected], gateway: str, *, alone: bool
) -> str:
    """What is not as it should be yet; empty when all is."""
    others = running.keys() - {each.model.name for each in expected} if alone else set()
    if others:
        return f"{min(others)} is still served"
    if not expected and not answers(gateway):
        return f"{gateway} does not answer"
    differences = (_difference(running.get(each.model.name), each, gateway) for each in expected)
    return next(filter(None, differences), "")


def _difference(served: Served | None, expected: Expected, gateway: str) -> str:
    model = expected.model
    if served is None:
        return f"{gateway} does not answer for {model.name}"
    serves = served.available if expected.serves is None else expected.serves
    if not serves:
        return f"no version of {model.name} is AVAILABLE"
    if missing := sorted(serves - served.available):
        return f"{model.name} version {missing[0]} is not AVAILABLE"
    if left := sorted(served.available - serves):
        return f"{model.name} version {left[0]} is still served"
    if served.labels != dict(model.labels):
        return f"the labels of {model.name} are not what they should be"
    return "" if labels_answer(gateway, model) else f"a label of {model.name} does not answer yet"


def _failure(served: Served | None, expected: Expected) -> tuple[str, float] | None:
    """Why the model will not come to be served, in words, and how many seconds that has to last to
    be believed."""
    if served is None or served.loading:
        return None
    name = expected.model.name
    for version in sorted((expected.serves or frozenset()) - served.available):
        if version in served.reasons:
            return (
                f"{name} version {version} failed to load: {served.reasons[version]}",
                _FAILED_FOR_S,
            )
    if served.trouble and (expected.serves is None or not served.available):
        return f"{name}: {served.trouble}", _FAILED_FOR_S if served.reasons else _UNKNOWN_FOR_S
    return None


def _answers_as(gateway: str, name: str, label: str, version: int) -> bool:
    # A model's status takes no notice of a label; its metadata is that of the version the label
    # stands for.
    url = gateway + rest_paths.path(ModelSpec(name, label=label), rest_paths.METADATA)
    try:
        with urllib.request.urlopen(url, timeout=_ASK_S) as answer:
            return int(json.load(answer)["model_spec"]["version"]) == version
    except (OSError, ValueError, LookupError):
        return False
