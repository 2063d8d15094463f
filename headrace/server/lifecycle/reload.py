"""A new config by gRPC, in one step: what is new loads first, and only then does what is no longer
wanted go.

A reload that fails leaves everything as it was.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from headrace.protocol.errors import (
    ConfigError,
    DeadlineExceeded,
    HeadraceError,
    InvalidArgument,
    Unknown,
)
from headrace.server.lifecycle.repository import Repository
from headrace.store import model_list
from headrace.store.model_list import ServingConfig

log = logging.getLogger(__name__)


class Reloader:
    """One reload at a time."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._lock = threading.Lock()

    def reload(self, message: Any, deadline: float | None) -> None:
        """``message`` is a ModelServerConfig. Returns once every model that is new is available."""
        if not message.HasField("model_config_list"):
            raise InvalidArgument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        wanted = _read(message)
        left = _left(deadline)
        if not self._lock.acquire(timeout=-1 if left is None else max(0.0, left)):
            raise DeadlineExceeded("another reload is under way")
        try:
            self._step(wanted, deadline)
        finally:
            self._lock.release()
        log.info(
            "config taken", extra={"models": len(wanted.models), "by": "HandleReloadConfigRequest"}
        )

    def _step(self, wanted: ServingConfig, deadline: float | None) -> None:
        repository = self._repository
        repository.check(wanted)
        before = repository.configured()
        new = [model for model in wanted.models if before.model(model.name) is None]
        if not new:
            repository.apply(wanted, instead_of=before)
            return
        both = ServingConfig((*before.models, *new))
        repository.apply(both, instead_of=before)
        try:
            self._load({model.name for model in new}, wanted, deadline)
            repository.apply(wanted, instead_of=both)
        except HeadraceError:
            # Raises Aborted where neither holds any more.
            repository.apply(before, instead_of=both)
            raise

    def _load(self, new: set[str], wanted: ServingConfig, deadline: float | None) -> None:
        """Waits for what is new; raises where it does not become available in time, or its labels
        lead nowhere."""
        repository = self._repository
        if not repository.wait_until_settled(_left(deadline), names=new):
            raise DeadlineExceeded("The new models did not load in time; the old config stays")
        failed = repository.failures(new)
        if failed:
            told = "".join(f"{{{who} due to error: {why}}}, " for who, why in failed)
            raise Unknown(f"{len(failed)} model(s) did not become available: {{{told}}}")
        repository.check(wanted, also=new)


def _read(message: Any) -> ServingConfig:
    """The config; or what is wrong with it, in TensorFlow Serving's words."""
    try:
        wanted = model_list.from_message(message)
    except ConfigError as error:
        raise InvalidArgument(error.serving_text) from error
    if any(model.logging for model in wanted.models):
        raise InvalidArgument("No request-logger-creator provided.")
    return wanted


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()
