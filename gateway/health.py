"""Whether the backend answers, and what /readyz says about it (livez asks nothing)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.contracts.catalog import Catalog, Model
from gateway.upstream.backend_health import BackendHealth


class Health:
    """The pulses of all replicas together: up when one is; and what was seen of readiness so
    far."""

    def __init__(self, *pulses: BackendHealth, was_ready: bool = False) -> None:
        self.pulses = pulses
        # What is known of the models is from before the backend went away.
        self.doubtful = False
        self._was_ready = was_ready

    @property
    def up(self) -> bool:
        return any(pulse.up for pulse in self.pulses)

    @property
    def reason(self) -> str:
        """Why those that do not answer do not."""
        return "; ".join(dict.fromkeys(pulse.reason for pulse in self.pulses if not pulse.up))

    def returned(self) -> None:
        """One that was down answers. Where no other did meanwhile, its models have to be looked at
        first."""
        self.doubtful = self.doubtful or sum(pulse.up for pulse in self.pulses) == 1

    @property
    def trouble(self) -> str:
        """Why no model is ready, whatever is known of it."""
        if not self.up:
            return f"the serving backend does not answer: {self.reason}"
        return (
            "the serving backend has come back, its models are being looked at"
            if self.doubtful
            else ""
        )

    def readiness(self, catalog: Catalog) -> Readiness:
        """Until it was ready once, nothing may still be loading; after that one AVAILABLE model is
        enough."""
        models = tuple(sorted(catalog.models.values(), key=lambda m: m.name))
        reason = self._why_not(models)
        if not reason:
            self._was_ready = True
        return Readiness(not reason, reason, self, catalog, models)

    def _why_not(self, models: tuple[Model, ...]) -> str:
        if self.trouble:
            return self.trouble
        if not models:
            return "no model is configured"
        loading = [m.name for m in models if m.loading]
        if loading and not self._was_ready:
            return "still loading: " + ", ".join(loading)
        if not any(m.contracts for m in models):
            return "no model is AVAILABLE"
        return ""


@dataclass(frozen=True, slots=True)
class Readiness:
    ready: bool
    reason: str
    health: Health
    catalog: Catalog
    models: tuple[Model, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "ready": self.ready,
            "reason": self.reason,
            "backend": {
                "answers": self.health.up,
                "reason": self.health.reason,
                "replicas": {
                    "up": sum(p.up for p in self.health.pulses),
                    "of": len(self.health.pulses),
                },
            },
            "config_error": self.catalog.config_error,
            "models": [model_state(m) for m in self.models],
        }

    def of_model(self, name: str) -> tuple[bool, dict[str, Any]]:
        """One model's own truth; NotFound when it is not configured."""
        model = self.catalog.model(name)
        reason = self.health.trouble
        ready = not reason and bool(model.contracts)
        return ready, {
            "ready": ready,
            **model_state(model),
            **({"reason": reason} if reason else {}),
        }


def model_state(model: Model) -> dict[str, Any]:
    return {"name": model.name, "state": model.state, "reason": model.reason}
