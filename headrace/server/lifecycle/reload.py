"""A new config by gRPC: the new models load first, and only then are the old ones unloaded.

A reload that fails leaves everything as it was.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from headrace.protocol.errors import (
    ConfigError,
    DeadlineExceeded,
    HeadraceError,
    InvalidArgument,
    Unknown,
)
from headrace.server.deadlines import wait_s
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
        """``message`` is a ModelServerConfig. Returns once every new model is available."""
        if not message.HasField("model_config_list"):
            raise InvalidArgument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        config = _parse(message)
        timeout_s = wait_s(deadline)
        if not self._lock.acquire(timeout=-1 if timeout_s is None else timeout_s):
            raise DeadlineExceeded("another reload is under way")
        try:
            self._apply(config, deadline)
        finally:
            self._lock.release()
        fields = {"models": len(config.models), "by": "HandleReloadConfigRequest"}
        log.info("config taken", extra=fields)

    def _apply(self, config: ServingConfig, deadline: float | None) -> None:
        repository = self._repository
        repository.check(config)
        old = repository.configured()
        new_models = [model for model in config.models if old.model(model.name) is None]
        if not new_models:
            repository.apply(config, instead_of=old)
            return
        both = ServingConfig((*old.models, *new_models))
        repository.apply(both, instead_of=old)
        try:
            self._wait_for({model.name for model in new_models}, config, deadline)
            repository.apply(config, instead_of=both)
        except HeadraceError:
            # This raises Aborted if another config has been applied meanwhile.
            repository.apply(old, instead_of=both)
            raise

    def _wait_for(self, names: set[str], config: ServingConfig, deadline: float | None) -> None:
        """Raises when one of the models does not become available in time, or when one of its
        labels points to no available version."""
        repository = self._repository
        if not repository.wait_until_settled(wait_s(deadline), names=names):
            raise DeadlineExceeded("The new models did not load in time; the old config stays")
        failures = repository.failures(names)
        if failures:
            text = "".join(f"{{{name} due to error: {error}}}, " for name, error in failures)
            raise Unknown(f"{len(failures)} model(s) did not become available: {{{text}}}")
        repository.check(config, also=names)


def _parse(message: Any) -> ServingConfig:
    """The config; raises what is wrong with it in TensorFlow Serving's words."""
    try:
        config = model_list.from_message(message)
    except ConfigError as error:
        raise InvalidArgument(error.serving_text) from error
    if any(model.logging for model in config.models):
        raise InvalidArgument("No request-logger-creator provided.")
    return config
