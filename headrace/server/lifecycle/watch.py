"""Keeps a repository in step with the config file and the folders, by looking at each every so
often."""

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


class Watch:
    """A period of 0 or less means: once, at the start."""

    def __init__(
        self,
        repository: Repository,
        wanted: Path | ServingConfig,
        *,
        config_period_s: float,
        folders_period_s: float,
    ) -> None:
        self._repository = repository
        self._wanted = ConfigFile(wanted) if isinstance(wanted, Path) else wanted
        self._config_period_s = config_period_s if config_period_s > 0 else math.inf
        self._folders_period_s = folders_period_s if folders_period_s > 0 else math.inf
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Takes the config, and says what is wrong with it; from then on a wrong one is logged and
        passed over."""
        wanted = self._wanted
        self._repository.apply(wanted if isinstance(wanted, ServingConfig) else wanted.first())
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        now = time.monotonic()
        config_at, folders_at = now + self._config_period_s, now + self._folders_period_s
        while not self._stop.wait(_seconds_until(min(config_at, folders_at))):
            now = time.monotonic()
            try:
                if now >= config_at:
                    config_at = now + self._config_period_s
                    if isinstance(self._wanted, ConfigFile):
                        self._wanted.offer(self._repository)
                if now >= folders_at:
                    folders_at = now + self._folders_period_s
                    self._repository.scan()
            except Exception:
                log.exception("the store could not be looked at; it will be again")


class ConfigFile:
    """The config file as last taken. Content that was refused is refused once, unless only time was
    missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken: bytes | None = None
        self._complaint = ""

    def first(self) -> model_list.ServingConfig:
        if self._path.is_file():
            # Before it is parsed: what changes in between is offered again.
            self._taken = self._path.read_bytes()
        return model_list.load(self._path, may_be_blank=True)

    def offer(self, repository: Repository) -> None:
        """Gives the repository what changed since it last took something. What cannot be taken
        leaves all as it is."""
        try:
            content = self._path.read_bytes()
        except OSError as error:
            self._complain(f"{self._path}: {error.strerror}")
            return
        if content == self._taken:
            self._complaint = ""
            return
        try:
            repository.apply(model_list.load(self._path))
        except ConfigError as error:
            self._complain(textfiles.fault(error))
            return
        except HeadraceError as error:
            # A label's version may yet become available: it is offered again.
            self._complain(str(error))
            return
        self._taken, self._complaint = content, ""
        log.info("config taken", extra={"file": str(self._path)})

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.error("config refused, the old one stays", extra={"reason": text})


def _seconds_until(moment: float) -> float | None:
    return None if math.isinf(moment) else max(0.0, moment - time.monotonic())
