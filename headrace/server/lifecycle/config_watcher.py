"""Keeps the repository in step with the config file and the model folders, by polling both."""

from __future__ import annotations

import logging
import math
import threading
import time
from pathlib import Path

from headrace.protocol.errors import ConfigError, HeadraceError
from headrace.server import textfiles
from headrace.server.lifecycle.repository import Repository
from headrace.store import model_list
from headrace.store.model_list import ServingConfig

log = logging.getLogger(__name__)


class ConfigWatcher:
    """``source`` is a config, or the path of the file to read it from. A period of 0 or less means
    once, at the start."""

    def __init__(
        self,
        repository: Repository,
        source: Path | ServingConfig,
        *,
        config_period_s: float,
        folders_period_s: float,
    ) -> None:
        self._repository = repository
        self._source = ConfigFile(source) if isinstance(source, Path) else source
        self._config_period_s = config_period_s if config_period_s > 0 else math.inf
        self._folders_period_s = folders_period_s if folders_period_s > 0 else math.inf
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Raises what is wrong with the first config. Later ones are logged and ignored when they
        are wrong."""
        source = self._source
        config = source.read_first() if isinstance(source, ConfigFile) else source
        self._repository.apply(config)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        now = time.monotonic()
        config_at = now + self._config_period_s
        folders_at = now + self._folders_period_s
        while not self._stop.wait(_seconds_until(min(config_at, folders_at))):
            now = time.monotonic()
            try:
                if now >= config_at:
                    config_at = now + self._config_period_s
                    if isinstance(self._source, ConfigFile):
                        self._source.apply_changes(self._repository)
                if now >= folders_at:
                    folders_at = now + self._folders_period_s
                    self._repository.scan()
            except Exception:
                log.exception("the config or the models could not be read; they are polled again")


class ConfigFile:
    """The config file and the content that was last applied. A wrong config is logged once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._applied: bytes | None = None
        self._last_error: str | None = None

    def read_first(self) -> ServingConfig:
        if self._path.is_file():
            # The content is noted before it is parsed, so that a change in between is noticed.
            self._applied = self._path.read_bytes()
        return model_list.load(self._path, may_be_blank=True)

    def apply_changes(self, repository: Repository) -> None:
        """Applies the file if its content has changed. A config that is wrong changes nothing."""
        try:
            content = self._path.read_bytes()
        except OSError as error:
            self._log_once(f"{self._path}: {error.strerror}")
            return
        if content == self._applied:
            self._last_error = None
            return
        try:
            repository.apply(model_list.load(self._path))
        except ConfigError as error:
            self._log_once(textfiles.fault(error))
            return
        except HeadraceError as error:
            # It is tried again: the version of a label may yet become available.
            self._log_once(str(error))
            return
        self._applied = content
        self._last_error = None
        log.info("config taken", extra={"file": str(self._path)})

    def _log_once(self, error: str) -> None:
        if error != self._last_error:
            self._last_error = error
            log.error("config refused, the old one stays", extra={"reason": error})


def _seconds_until(moment: float) -> float | None:
    if math.isinf(moment):
        return None
    return max(0.0, moment - time.monotonic())
