"""Loads one version, with retries, until it is loaded or no longer aspired."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from headrace.protocol.errors import Cancelled, HeadraceError, Internal
from headrace.server.engines import Engine, LoadedModel
from headrace.server.lifecycle.versions import Version
from headrace.server.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loader:
    """``changed`` is the repository's condition, notified when a version is no longer aspired.
    ``slots`` bounds the loads that run at once; one that waits for its retry holds none."""

    engine: Engine
    changed: threading.Condition
    slots: threading.BoundedSemaphore
    retries: int = 5
    interval_s: float = 60.0
    metrics: Metrics = field(default_factory=Metrics)

    def load(self, version: Version) -> LoadedModel:
        interval_s = max(0.0, self.interval_s)
        for attempt in range(1, self.retries + 2):
            if not version.is_aspired:
                raise Cancelled("Loading of servable cancelled")
            try:
                with self.slots:
                    return self._attempt(version)
            except HeadraceError as error:
                failure = error
            except Exception as error:
                log.exception("engine failed", extra=_fields(version))
                failure = Internal(f"{type(error).__name__}: {error}")
            if attempt <= self.retries:
                details: dict[str, object] = {
                    "attempt": attempt,
                    "again_in_s": interval_s,
                    "reason": failure.message,
                }
                log.warning("load failed", extra=_fields(version) | details)
                with self.changed:
                    self.changed.wait_for(lambda: not version.is_aspired, interval_s)
        raise failure

    def _attempt(self, version: Version) -> LoadedModel:
        started = time.perf_counter()
        status = "fail"
        try:
            loaded = self.engine.load(version.path)
            status = "success"
            return loaded
        finally:
            self.metrics.loaded(str(version.path), status, time.perf_counter() - started)


def _fields(version: Version) -> dict[str, object]:
    return {"model": version.model, "version": version.number}
