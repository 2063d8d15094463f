"""What the running servers serve, as their gateway reports it, and waiting until that is as wanted.

The one place that waits for a change of the list of models to become live.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.protocol import rest_paths
from headrace.protocol.model_spec import ModelSpec
from headrace.store.model_list import ModelConfig
from trainer.errors import NotLive

_ANSWER_TIMEOUT_S = 5.0
_POLL_S = 0.1
# A version that failed is reported as failed until the server has tried it again.
_FAILED_FOR_S = 5.0
# The server may not yet have read a model from the list that it does not know.
_UNKNOWN_FOR_S = 10.0


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model as the gateway sees it."""

    # Answers calls that name no version.
    default: int | None
    available: frozenset[int]
    labels: dict[str, int]
    # By version, why it failed.
    reasons: dict[int, str]
    # The gateway's sentence about the model as a whole; None when nothing is wrong.
    trouble: str | None
    loading: bool


@dataclass(frozen=True, slots=True)
class ExpectedModel:
    """A model's entry, and the versions that it should be served in.

    ``versions`` is None where its folder cannot be seen from here.
    """

    model: ModelConfig
    versions: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class _Failure:
    message: str
    # How long it must last to be believed.
    lasting_s: float


def read(gateway: str) -> dict[str, ModelStatus]:
    """Every model that the gateway knows; {} when no gateway of ours answers there."""
    try:
        url = gateway + rest_paths.MODELS
        with urllib.request.urlopen(url, timeout=_ANSWER_TIMEOUT_S) as answer:
            models: list[dict[str, Any]] = json.load(answer)["models"]
        statuses = {}
        for model in models:
            statuses[model["name"]] = _status(model)
        return statuses
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def answers(gateway: str) -> bool:
    try:
        with urllib.request.urlopen(f"{gateway}/livez", timeout=_ANSWER_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def wait_until_live(
    gateway: str,
    expected: Sequence[ExpectedModel],
    *,
    timeout_s: float,
    no_others: bool = False,
) -> None:
    """Return once each model is served as its entry says, and with ``no_others`` nothing else is.

    Raises NotLive when that cannot happen any more, or did not in time.
    """
    began = time.monotonic()
    failing_since: dict[str, float] = {}
    while True:
        statuses = read(gateway)
        difference = _first_difference(statuses, expected, gateway, no_others=no_others)
        if difference is None:
            return

        now = time.monotonic()
        still_failing_since: dict[str, float] = {}
        for failure in _failures(statuses, expected):
            since = failing_since.get(failure.message, now)
            if now - since > failure.lasting_s:
                raise NotLive(failure.message)
            still_failing_since[failure.message] = since
        failing_since = still_failing_since

        if now - began > timeout_s:
            raise NotLive(f"not as wanted after {timeout_s:g} s: {difference}")
        time.sleep(_POLL_S)


def _status(model: dict[str, Any]) -> ModelStatus:
    available = set()
    reasons = {}
    for version in model["versions"]:
        if version["state"] == "AVAILABLE":
            available.add(version["version"])
        if version["reason"]:
            reasons[version["version"]] = version["reason"]
    return ModelStatus(
        default=model["default_version"],
        available=frozenset(available),
        labels=dict(model["labels"]),
        reasons=reasons,
        trouble=model["reason"] or None,
        loading=bool(model.get("loading")),
    )


def _first_difference(
    statuses: Mapping[str, ModelStatus],
    expected: Sequence[ExpectedModel],
    gateway: str,
    *,
    no_others: bool,
) -> str | None:
    """What is not as it should be yet."""
    if no_others:
        others = statuses.keys() - {each.model.name for each in expected}
        if others:
            return f"{min(others)} is still served"
    if not expected and not answers(gateway):
        return f"{gateway} does not answer"
    for each in expected:
        difference = _difference(statuses.get(each.model.name), each, gateway)
        if difference is not None:
            return difference
    return None


def _difference(status: ModelStatus | None, expected: ExpectedModel, gateway: str) -> str | None:
    model = expected.model
    if status is None:
        return f"{gateway} does not answer for {model.name}"
    versions = expected.versions
    if versions is None:
        versions = status.available
    if not versions:
        return f"no version of {model.name} is AVAILABLE"
    missing = versions - status.available
    if missing:
        return f"{model.name} version {min(missing)} is not AVAILABLE"
    surplus = status.available - versions
    if surplus:
        return f"{model.name} version {min(surplus)} is still served"
    if status.labels != dict(model.labels):
        return f"the labels of {model.name} are not what they should be"
    # The gateway only repeats the labels of the rendered list, so the servers are asked as well.
    for label, version in model.labels.items():
        if not _label_answers(gateway, model.name, label, version):
            return f"a label of {model.name} does not answer yet"
    return None


def _label_answers(gateway: str, name: str, label: str, version: int) -> bool:
    # A model's status ignores labels; its metadata is that of the version the label stands for.
    path = rest_paths.path(ModelSpec(name, label=label), rest_paths.METADATA)
    try:
        with urllib.request.urlopen(gateway + path, timeout=_ANSWER_TIMEOUT_S) as answer:
            metadata = json.load(answer)
        return int(metadata["model_spec"]["version"]) == version
    except (OSError, ValueError, LookupError):
        return False


def _failures(
    statuses: Mapping[str, ModelStatus], expected: Sequence[ExpectedModel]
) -> list[_Failure]:
    failures = []
    for each in expected:
        failure = _failure(statuses.get(each.model.name), each)
        if failure is not None:
            failures.append(failure)
    return failures


def _failure(status: ModelStatus | None, expected: ExpectedModel) -> _Failure | None:
    """Why the model will not come to be served."""
    if status is None or status.loading:
        return None
    name = expected.model.name
    missing = (expected.versions or frozenset()) - status.available
    for version in sorted(missing):
        if version in status.reasons:
            reason = status.reasons[version]
            return _Failure(f"{name} version {version} failed to load: {reason}", _FAILED_FOR_S)
    if status.trouble and (expected.versions is None or not status.available):
        lasting_s = _UNKNOWN_FOR_S
        if status.reasons:
            lasting_s = _FAILED_FOR_S
        return _Failure(f"{name}: {status.trouble}", lasting_s)
    return None
