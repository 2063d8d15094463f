"""The recorded servers again, ours this time or those that the environment names; and the count of
what agreed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract import servers
from tests.live import Caller, LiveServer

_LEVELS = ("bytes", "parsed", "class", "ours")


@pytest.fixture(scope="session")
def server(
    contract_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Caller]]:
    """The server of a recorded configuration by its letter; one of ours is started when first asked
    for."""
    targets = servers.targets()
    running: dict[str, LiveServer] = {}
    with LiveServer.launcher(tmp_path_factory.mktemp("servers")) as launch:

        def named(letter: str) -> Caller:
            if targets:
                if letter not in targets:
                    pytest.skip(f"no target for configuration {letter}")
                return targets[letter]
            if letter not in running:
                entries, flags = servers.configuration(letter, contract_models)
                config = tmp_path_factory.mktemp(letter) / "models.config"
                config.write_text(servers.config_text(entries))
                running[letter] = launch(
                    model_config_file=config, file_system_poll_wait_seconds=0, **flags
                )
                running[letter].wait_until_available(*entries)
            return running[letter]

        yield named
    for target in targets.values():
        target.close()


@pytest.fixture(scope="session")
def is_ours() -> bool:
    """Whether our deliberate differences are what to expect: a target that lists its models is ours
    too."""
    return all(target.get("/v1/models").status == 200 for target in servers.targets().values())


@pytest.fixture
def level(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says how closely a case agreed: its bytes, what they say, or only the kind of answer; or that
    it is a difference of ours."""

    def said(how: str) -> None:
        assert how in _LEVELS
        record_property("contract", how)

    return said


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counts: dict[str, Counter[str]] = {}
    for report in terminalreporter.stats.get("passed", ()):
        for name, how in report.user_properties:
            if name == "contract":
                kind = Path(report.nodeid.split("::")[0]).stem.removeprefix("test_")
                counts.setdefault(kind, Counter())[how] += 1
    if counts:
        terminalreporter.section("contract")
    for kind, found in sorted(counts.items()):
        told = ", ".join(f"{found[how]} {how}" for how in _LEVELS if found[how])
        terminalreporter.line(f"{kind}: {found.total()} cases agree: {told}")
    if counts:
        terminalreporter.line(
            "(bytes: the same; parsed: the same once read; class: the same kind; ours: "
            "docs/compatibility.md)"
        )
