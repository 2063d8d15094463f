"""One version of one model, its state and who is using it; which versions a policy wants, and which
may go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headrace.protocol.errors import HeadraceError
from headrace.protocol.version_state import VersionState
from headrace.server.engines import LoadedModel


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """``error_code`` is the canonical status of a failed load, by number and name; 0 and OK
    otherwise."""

    version: int
    state: VersionState
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
    state: VersionState = VersionState.START
    aspired: bool = True
    error: HeadraceError | None = None
    loaded: LoadedModel | None = None
    uses: int = 0
    retry: bool = False

    @property
    def has_failed(self) -> bool:
        return self.state is VersionState.END and self.error is not None and not self.retry

    @property
    def is_coming(self) -> bool:
        """It loads, or will: also one that is wanted again while it still unloads."""
        return self.state in (VersionState.START, VersionState.LOADING) or (
            self.aspired and self.state is VersionState.UNLOADING
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


def superfluous(versions: Iterable[Version]) -> list[Version]:
    """Versions that may go without leaving a gap: none while the only one that answers is one
    nobody wants any more."""
    known = list(versions)
    stale = sorted(
        (v for v in known if v.state is VersionState.AVAILABLE and not v.aspired),
        key=lambda v: v.number,
    )
    aspired = [v for v in known if v.aspired]
    if not aspired or any(v.state is VersionState.AVAILABLE for v in aspired):
        return stale
    return stale[:-1]
