"""Finds the signatures of a version that may be batched adaptively: a proof over the graph and
samples must both show that rows are independent."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.protocol.signatures import Signature
from headrace.server.batching import samples
from headrace.server.batching.batcher import Batcher, Limits
from headrace.server.engines import Engine, LoadedModel
from headrace.server.metrics import Metrics

log = logging.getLogger(__name__)


def obstacles(model: LoadedModel, folder: Path) -> dict[str, str | None]:
    """For each signature that callers can use: why it cannot be batched, or None."""
    reasons: dict[str, str | None] = {}
    for name, signature in model.signatures.items():
        if name.startswith("__"):
            continue
        reason = model.not_row_wise.get(name, "nothing is known about it")
        if reason is None:
            reason = samples.disagreement(model, signature, samples.read(folder, signature))
        reasons[name] = reason
    return reasons


@dataclass(frozen=True, slots=True)
class AdaptiveEngine:
    """Loads as ``engine`` does, and finds out which signatures may be batched."""

    engine: Engine
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics | None = None

    def load(self, folder: Path) -> LoadedModel:
        model = self.engine.load(folder)
        try:
            started = time.perf_counter()
            reasons = obstacles(model, folder)
        except BaseException:
            model.close()
            raise
        batched = [name for name, reason in reasons.items() if reason is None]
        fields: dict[str, object] = {
            "version": str(folder),
            "signatures": ",".join(batched) or "none",
            "seconds": time.perf_counter() - started,
        }
        log.info("batched adaptively", extra=fields)
        for name, reason in reasons.items():
            if reason is not None:
                log.info(
                    "not batched",
                    extra={"version": str(folder), "signature": name, "reason": reason},
                )
        return AdaptiveModel(
            model, batched, self.limits, name=folder.parent.name, metrics=self.metrics
        )


class AdaptiveModel:
    """Runs as ``model`` does; the Runner sends requests through its batchers."""

    def __init__(
        self,
        model: LoadedModel,
        batched: Sequence[str],
        limits: Limits,
        *,
        name: str,
        metrics: Metrics | None = None,
    ) -> None:
        self._model = model
        self.signatures: Mapping[str, Signature] = model.signatures
        self.signature_defs: Mapping[str, Any] = model.signature_defs
        self.not_row_wise = model.not_row_wise
        self.run = model.run
        self.expected_s = model.expected_s
        self.close = model.close
        self.batchers: dict[str, Batcher] = {}
        for key in batched:
            signature = model.signatures[key]
            self.batchers[key] = Batcher(
                model, signature, limits, name=f"{name}:{key}", metrics=metrics
            )

    @property
    def batched(self) -> tuple[str, ...]:
        return tuple(self.batchers)
