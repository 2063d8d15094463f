"""Where the trainer reads and writes. Values only; the environment is read when from_environment() is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    store: Path = Path("models")  # HEADRACE_STORE: <store>/<name>/<version>/ and the rendered multimodel.config
    config: Path = Path("multimodel.config")  # HEADRACE_CONFIG: the user's list of models
    cache: Path = Path(".cache")  # HEADRACE_CACHE: fetched archives, kept in its folder data/

    @property
    def archives(self) -> Path:
        return self.cache / "data"


def from_environment(environ: Mapping[str, str]) -> Settings:
    """An empty variable counts as unset: compose files pass those on."""
    default = Settings()
    return Settings(
        store=Path(environ.get("HEADRACE_STORE") or default.store),
        config=Path(environ.get("HEADRACE_CONFIG") or default.config),
        cache=Path(environ.get("HEADRACE_CACHE") or default.cache),
    )
