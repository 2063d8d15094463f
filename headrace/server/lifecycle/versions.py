"""One version of one model, its state and who is using it; which versions a policy wants, and which
may go."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headrace.server.engines import LoadedModel
from headrace.wire import config
from headrace.wire.config import Policy
from headrace.wire.errors import HeadraceError


class State(enum.IntEnum):
    """TensorFlow Serving's states, by their numbers on the wire."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """``error_code`` is the canonical status of a failed load, by number and name; 0 and OK
    otherwise."""

    version: int
    state: State
    error_code: int = 0
    error_name: str = "OK"
    error_message: str = ""
    # The signatures whose requests may run together, unasked.
    batched: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Version:
    """Guarded by the repository's lock. ``aspired``: the policy wants it; ``uses``: calls that are
    running on it; ``retry``: its folder was gone for a while, or the config is another one, so one
    that failed may be tried again."""

    model: str
    number: int
    path: Path
    state: State = State.START
    aspired: bool = True
    error: HeadraceError | None = None
    loaded: LoadedModel | None = None
    uses: int = 0
    retry: bool = False

    @property
    def has_failed(self) -> bool:
        return self.state is State.END and self.error is not None and not self.retry

    @property
    def is_coming(self) -> bool:
        """It loads, or will: also one that is wanted again while it still unloads."""
        return self.state in (State.START, State.LOADING) or (
            self.aspired and self.state is State.UNLOADING
        )

    @property
    def status(self) -> VersionStatus:
        if self.error is None:
            return VersionStatus(
                self.number, self.state, batched=tuple(sorted(getattr(self.loaded, "batched", ())))
            )
        error = self.error
        return VersionStatus(
            self.number, self.state, error.grpc_code, error.status_name, error.message
        )


def wanted(policy: Policy, numbers: Iterable[int]) -> frozenset[int]:
    """Which of these versions the policy asks for."""
    return frozenset(config.wanted(policy, numbers))


def superfluous(versions: Iterable[Version]) -> list[Version]:
    """Versions that may go without leaving a gap: none while the only one that answers is one
    nobody wants any more."""
    known = list(versions)
    stale = sorted(
        (v for v in known if v.state is State.AVAILABLE and not v.aspired), key=lambda v: v.number
    )
    aspired = [v for v in known if v.aspired]
    if not aspired or any(v.state is State.AVAILABLE for v in aspired):
        return stale
    return stale[:-1]
