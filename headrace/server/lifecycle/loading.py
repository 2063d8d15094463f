"""Loads one version, again where it fails, until it is there or nobody wants it any more."""

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
    """``changed`` is the repository's condition: it is told when a version is no longer aspired to.
    ``places`` are as many as loads go on side by side; one that waits to be retried holds none."""

    engine: Engine
    changed: threading.Condition
    places: threading.BoundedSemaphore
    retries: int = 5
    interval_s: float = 60.0
    metrics: Metrics = field(default_factory=Metrics)

    def load(self, version: Version) -> LoadedModel:
        for attempt in range(1, self.retries + 2):
            if not version.aspired:
                raise Cancelled("Loading of servable cancelled")
            try:
                with self.places:
                    return self._attempt(version)
            except HeadraceError as error:
                failure = error
            except Exception as error:
                log.exception("engine failed", extra=_fields(version))
                failure = Internal(f"{type(error).__name__}: {error}")
            if attempt <= self.retries:
                again = {
                    "attempt": attempt,
                    "again_in_seconds": max(0.0, self.interval_s),
                    "reason": failure.message,
                }
                log.warning("load failed", extra=_fields(version) | again)
                with self.changed:
                    self.changed.wait_for(lambda: not version.aspired, max(0.0, self.interval_s))
        raise failure

    def _attempt(self, version: Version) -> LoadedModel:
        started, status = time.perf_counter(), "fail"
        try:
            loaded = self.engine.load(version.path)
            status = "success"
            return loaded
        finally:
            self.metrics.loaded(str(version.path), status, time.perf_counter() - started)


def _fields(version: Version) -> dict[str, object]:
    return {"model": version.model, "version": version.number}
