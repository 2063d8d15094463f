"""The trainer's settings come from the environment."""

from __future__ import annotations

from pathlib import Path

from trainer import settings


def test_settings_come_from_the_environment_and_empty_means_unset() -> None:
    assert settings.from_environment(
        {"HEADRACE_STORE": "/models", "HEADRACE_CACHE": ""}
    ) == settings.Settings(
        store=Path("/models"), config=Path("multimodel.config"), cache=Path(".cache")
    )
