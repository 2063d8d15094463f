"""Where the trainer reads and writes. The environment is read in from_environment() alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import Usage

# Prints a line for the person at the prompt.
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    # HEADRACE_STORE: <store>/<name>/<version>/ and the rendered multimodel.config.
    store: Path = Path("models")
    # HEADRACE_CONFIG: the user's list of models.
    config: Path = Path("multimodel.config")
    # HEADRACE_CACHE: fetched archives in its folder data/, trainings in runs/.
    cache: Path = Path(".cache")
    # HEADRACE_GATEWAY, else this machine's at HEADRACE_HTTP_PORT: promote, rollback, gc and list
    # ask it what is live.
    gateway: str = "http://127.0.0.1:8000"
    # HEADRACE_LIVE_TIMEOUT_S: how long promote and rollback wait until a change is live.
    live_timeout_s: float = 120.0

    @property
    def archives(self) -> Path:
        return self.cache / "data"

    @property
    def runs(self) -> Path:
        return self.cache / "runs"


def from_environment(environ: Mapping[str, str]) -> Settings:
    """An empty variable counts as unset, because compose files pass those on."""
    default = Settings()
    here = f"http://127.0.0.1:{environ.get('HEADRACE_HTTP_PORT') or 8000}"
    return Settings(
        store=Path(environ.get("HEADRACE_STORE") or default.store),
        config=Path(environ.get("HEADRACE_CONFIG") or default.config),
        cache=Path(environ.get("HEADRACE_CACHE") or default.cache),
        gateway=(environ.get("HEADRACE_GATEWAY") or here).rstrip("/"),
        live_timeout_s=_seconds(environ.get("HEADRACE_LIVE_TIMEOUT_S"), default.live_timeout_s),
    )


def _seconds(text: str | None, default: float) -> float:
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise Usage(f"HEADRACE_LIVE_TIMEOUT_S={text}: expected seconds above 0")
    return value
