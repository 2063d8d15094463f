"""Which versions a policy wants, and which may go without leaving a gap."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.protocol.errors import DataLoss
from headrace.protocol.version_state import VersionState
from headrace.server.lifecycle import versions
from headrace.server.lifecycle.versions import Version, VersionStatus


@pytest.mark.parametrize(
    ("states", "gone"),
    [
        ({1: "available", 2: "loading aspired"}, set()),
        ({1: "available", 2: "available aspired"}, {1}),
        ({1: "available", 2: "end aspired"}, set()),
        ({1: "available", 2: "available", 3: "loading aspired"}, {1}),
        ({1: "available", 2: "available", 3: "available aspired"}, {1, 2}),
        ({1: "available", 2: "available"}, {1, 2}),
        ({1: "loading", 2: "unloading", 3: "end"}, set()),
    ],
)
def test_unloadable(states: dict[int, str], gone: set[int]) -> None:
    known = [
        Version(
            "m", number, Path(), VersionState[text.split()[0].upper()], is_aspired="aspired" in text
        )
        for number, text in states.items()
    ]

    assert {v.number for v in versions.unloadable(known)} == gone


def test_the_status_of_a_failed_load_keeps_its_reason() -> None:
    version = Version(
        "m", 3, Path(), VersionState.END, error=DataLoss("Read less bytes than requested")
    )

    assert version.status == VersionStatus(
        3, VersionState.END, 15, "DATA_LOSS", "Read less bytes than requested"
    )
