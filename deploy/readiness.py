"""Whether the gateway is ready, by its /readyz: asked once, printed, or waited for."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deploy.terminal import Step, Stop, say

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Readiness:
    is_ready: bool
    # What the gateway says is missing; None when it does not say.
    reason: str | None = None
    # Each as in /readyz: name, state, reason.
    models: list[dict[str, Any]] = field(default_factory=list)


def read(gateway: str | None) -> Readiness:
    """None is a gateway without an address, which is not ready."""
    if gateway is None:
        return Readiness(False)
    try:
        with urllib.request.urlopen(f"{gateway}/readyz", timeout=5) as answer:
            return _readiness(True, json.load(answer))
    except urllib.error.HTTPError as error:
        try:
            return _readiness(False, json.load(error))
        except ValueError:
            return Readiness(False)
    except (OSError, ValueError):
        return Readiness(False)


def print_status(gateway: str | None) -> bool:
    """Print the models and whether the gateway is ready; True when it is."""
    readiness = read(gateway)
    for model in readiness.models:
        line = f"  {model['name']:<20} {model['state']}"
        if model.get("reason"):
            line += f"  {model['reason']}"
        say(line)
    if readiness.is_ready:
        say(f"ready at {gateway}")
    else:
        say(f"not ready: {readiness.reason or 'the gateway does not answer'}")
    return readiness.is_ready


def wait_until_ready(
    gateway: Callable[[], str | None],
    step: Step,
    *,
    timeout_s: float,
    stop_if_failing: Callable[[], None],
    last_words: Callable[[], str],
) -> None:
    """Raises Stop after ``timeout_s``, with the ``last_words`` of the logs.

    ``gateway`` gives the address, which may be known only after a while. ``stop_if_failing`` is
    called now and then, and raises Stop when a program keeps ending.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        readiness = read(gateway())
        if readiness.is_ready:
            return
        reason = readiness.reason or "the gateway does not answer yet"
        step.detail(reason)
        stop_if_failing()
        if time.monotonic() > deadline:
            message = f"Not ready after {timeout_s:g} s: {reason}.\n{last_words()}"
            if not is_settled(reason):
                message += "\nHEADRACE_START_TIMEOUT_S gives it longer."
            raise Stop(message)
        time.sleep(_POLL_S)


def is_settled(reason: str) -> bool:
    """Whether a gateway that is not ready for this reason will not be by waiting."""
    return reason.startswith("no model ")


def _readiness(is_ready: bool, body: Any) -> Readiness:
    if not isinstance(body, dict):
        return Readiness(is_ready)
    return Readiness(is_ready, body.get("reason") or None, body.get("models", []))
