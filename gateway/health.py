"""Whether the gateway can answer: the states of the backend's replicas, and what /readyz says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.contracts.catalog import Catalog, Model
from gateway.upstream.backend_health import BackendHealth


class Health:
    """The health of all replicas together: up when one of them is."""

    def __init__(self, *replicas: BackendHealth, was_ready: bool = False) -> None:
        self.replicas = replicas
        # What is known of the models is from before the backend went away.
        self.models_are_stale = False
        self._was_ready = was_ready

    @property
    def replicas_up(self) -> int:
        return sum(replica.up for replica in self.replicas)

    @property
    def up(self) -> bool:
        return self.replicas_up > 0

    @property
    def reason(self) -> str:
        """Why those replicas that do not answer do not."""
        reasons = [replica.reason for replica in self.replicas if not replica.up]
        return "; ".join(dict.fromkeys(reasons))

    @property
    def problem(self) -> str | None:
        """Why no model can answer, whatever is known of the models."""
        if not self.up:
            return f"the serving backend does not answer: {self.reason}"
        if self.models_are_stale:
            return "the serving backend has come back, its models are being looked at"
        return None

    def replica_recovered(self) -> None:
        """If all were down, the models are checked again before the gateway reports ready."""
        if self.replicas_up == 1:
            self.models_are_stale = True

    def readiness(self, catalog: Catalog) -> Readiness:
        """Until the gateway was ready once, no model may still be loading; after that one AVAILABLE
        model is enough."""
        models = tuple(sorted(catalog.models.values(), key=lambda model: model.name))
        reason = self._why_not_ready(models)
        if reason is None:
            self._was_ready = True
        return Readiness(reason, self, catalog, models)

    def _why_not_ready(self, models: tuple[Model, ...]) -> str | None:
        if self.problem is not None:
            return self.problem
        if not models:
            return "no model is configured"
        loading = [model.name for model in models if model.loading]
        if loading and not self._was_ready:
            return "still loading: " + ", ".join(loading)
        if not any(model.contracts for model in models):
            return "no model is AVAILABLE"
        return None


@dataclass(frozen=True, slots=True)
class Readiness:
    # Why the gateway is not ready; None when it is.
    reason: str | None
    health: Health
    catalog: Catalog
    models: tuple[Model, ...]

    @property
    def ready(self) -> bool:
        return self.reason is None

    def as_json(self) -> dict[str, Any]:
        health = self.health
        return {
            "ready": self.ready,
            "reason": self.reason or "",
            "backend": {
                "answers": health.up,
                "reason": health.reason,
                "replicas": {"up": health.replicas_up, "of": len(health.replicas)},
            },
            "config_error": self.catalog.config_error or "",
            "models": [model_state(model) for model in self.models],
        }

    def of_model(self, name: str) -> tuple[bool, dict[str, Any]]:
        """Whether one model can answer, and the body that says so; NotFound when it is not
        configured."""
        model = self.catalog.model(name)
        problem = self.health.problem
        ready = problem is None and bool(model.contracts)
        body = {"ready": ready, **model_state(model)}
        if problem is not None:
            body["reason"] = problem
        return ready, body


def model_state(model: Model) -> dict[str, Any]:
    return {"name": model.name, "state": model.state, "reason": model.reason or ""}
