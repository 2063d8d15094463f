"""The recorded servers again, ours this time: one process for each configuration, for the whole session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import LiveServer
from tests.served import contract_models

__all__ = ["contract_models", "server"]

_ENTRY = """config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" {more} }}\n"""
_LABELS = "version_labels {{ key: '{}' value: {} }}"
_BOTH = "model_version_policy { all {} }"


@pytest.fixture(scope="session")
def server(contract_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], LiveServer]]:
    """The server of a recorded configuration by its letter, started when first asked for."""
    running: dict[str, LiveServer] = {}
    with LiveServer.launcher(tmp_path_factory.mktemp("servers")) as launch:

        def named(letter: str) -> LiveServer:
            if letter not in running:
                entries, flags = _configuration(letter, contract_models)
                config = tmp_path_factory.mktemp(letter) / "models.config"
                config.write_text("model_config_list {\n" + "".join(entries.values()) + "}\n")
                running[letter] = launch(model_config_file=config, file_system_poll_wait_seconds=0, **flags)
                running[letter].wait_until_available(*entries)
            return running[letter]

        yield named


def _configuration(letter: str, models: Path) -> tuple[dict[str, str], dict[str, object]]:
    """Model name -> config entry, and flags."""

    def entry(name: str, folder: str = "", more: str = "") -> dict[str, str]:
        return {name: _ENTRY.format(name=name, path=models / (folder or name), more=more)}

    two = "half_plus_two_2_versions"
    stable, canary = _LABELS.format("stable", 123), _LABELS.format("canary", 124)
    match letter:
        case "A":
            names = (p.name for p in models.iterdir() if p.is_dir() and p.name != two)
            return {name: text for n in names for name, text in entry(n).items()}, {}
        case "B":
            return entry("half_plus_two", two, _BOTH), {}
        case "C":
            return entry("half_plus_two", two, f"{_BOTH} {stable} {canary}"), {}
        case "C1":
            return entry("half_plus_two", more=stable), {}
        case "D":
            return entry("half_plus_two"), {"rest_api_enable_cors_support": True}
    raise AssertionError(letter)
