"""One version of one model: its state and the calls that use it; and which versions may be
unloaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headrace.protocol.errors import HeadraceError
from headrace.protocol.version_state import VersionState
from headrace.server.engines import LoadedModel


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """``error_code`` and ``error_name`` are the canonical status of a failed load; 0 and OK
    otherwise."""

    version: int
    state: VersionState
    error_code: int = 0
    error_name: str = "OK"
    error_message: str = ""
    # The signatures that are batched adaptively.
    batched: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Version:
    """Guarded by the repository's lock. ``is_aspired``: the policy selects it; ``uses``: calls that
    run on it; ``may_retry``: its folder or the config has changed, so a version that failed may be
    loaded again."""

    model: str
    number: int
    path: Path
    state: VersionState = VersionState.START
    is_aspired: bool = True
    error: HeadraceError | None = None
    loaded: LoadedModel | None = None
    uses: int = 0
    may_retry: bool = False

    @property
    def has_failed(self) -> bool:
        return self.state is VersionState.END and self.error is not None and not self.may_retry

    @property
    def is_coming(self) -> bool:
        """It loads or will load; also a version that is aspired again while it still unloads."""
        if self.state in (VersionState.START, VersionState.LOADING):
            return True
        return self.is_aspired and self.state is VersionState.UNLOADING

    @property
    def status(self) -> VersionStatus:
        error = self.error
        if error is None:
            batched = tuple(sorted(getattr(self.loaded, "batched", ())))
            return VersionStatus(self.number, self.state, batched=batched)
        return VersionStatus(
            self.number, self.state, error.grpc_code, error.status_name, error.message
        )


def unloadable(versions: Iterable[Version]) -> list[Version]:
    """The versions that may be unloaded. While no aspired version is available, the highest one
    that is stays, so that the model goes on answering."""
    stale: list[Version] = []
    aspired: list[Version] = []
    for version in versions:
        if version.is_aspired:
            aspired.append(version)
        elif version.state is VersionState.AVAILABLE:
            stale.append(version)
    stale.sort(key=lambda version: version.number)
    if not aspired or any(version.state is VersionState.AVAILABLE for version in aspired):
        return stale
    return stale[:-1]
