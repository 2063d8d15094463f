"""Which signatures of a loaded version are batched adaptively: the row-wise ones, by proof and by
samples."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headrace.protocol.signatures import Signature
from headrace.server.batching import samples
from headrace.server.batching.batcher import Batcher, Limits
from headrace.server.engines import Engine, LoadedModel
from headrace.server.metrics import Metrics

log = logging.getLogger(__name__)


def row_wise(model: LoadedModel, folder: Path) -> dict[str, str]:
    """Each signature that callers can mean, with why it is not row-wise; "" for one that is."""
    found = {}
    for name, signature in model.signatures.items():
        if name.startswith("__"):
            continue
        why = model.not_row_wise.get(name, "nothing is known of it")
        if not why:
            why = samples.disagreement(model, signature, samples.of(folder, signature))
        found[name] = why
    return found


@dataclass(frozen=True, slots=True)
class AdaptiveEngine:
    """Loads as ``engine`` does, and finds out what of it may be batched."""

    engine: Engine
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics | None = None

    def load(self, folder: Path) -> LoadedModel:
        model = self.engine.load(folder)
        try:
            started = time.perf_counter()
            found = row_wise(model, folder)
        except BaseException:
            model.close()
            raise
        batched = [name for name, why in found.items() if not why]
        fields: dict[str, object] = {
            "version": str(folder),
            "signatures": ",".join(batched) or "none",
        }
        log.info("batched adaptively", extra=fields | {"seconds": time.perf_counter() - started})
        for name, why in found.items():
            if why:
                log.info(
                    "not batched", extra={"version": str(folder), "signature": name, "reason": why}
                )
        return AdaptiveModel(
            model, batched, self.limits, name=folder.parent.name, metrics=self.metrics
        )


class AdaptiveModel:
    """Runs as ``model`` does; a Runner asks its batchers for what may run together."""

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
        self.batchers = {
            key: Batcher(
                model, model.signatures[key], limits, name=f"{name}:{key}", metrics=metrics
            )
            for key in batched
        }

    @property
    def batched(self) -> tuple[str, ...]:
        return tuple(self.batchers)


def batcher(
    model: LoadedModel, signature: Signature, inputs: Mapping[str, np.ndarray]
) -> Batcher | None:
    """Of a request that may run with others."""
    if not isinstance(model, AdaptiveModel):
        return None
    found = model.batchers.get(signature.name)
    return found if found is not None and found.takes(signature, inputs) else None
