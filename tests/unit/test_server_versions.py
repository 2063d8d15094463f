"""Which versions a policy wants, and which may go without leaving a gap."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.server.lifecycle import versions
from headrace.server.lifecycle.versions import State, Version, VersionStatus
from headrace.wire.config import All, Latest, Policy, Specific
from headrace.wire.errors import DataLoss


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (Latest(1), {12}),
        (Latest(2), {7, 12}),
        (Latest(9), {1, 7, 12}),
        (All(), {1, 7, 12}),
        (Specific((7, 99)), {7}),
        (Specific(()), set()),
    ],
)
def test_wanted(policy: Policy, wanted: set[int]) -> None:
    assert versions.wanted(policy, [7, 12, 1]) == wanted


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
def test_superfluous(states: dict[int, str], gone: set[int]) -> None:
    known = [
        Version("m", number, Path(), State[text.split()[0].upper()], aspired="aspired" in text)
        for number, text in states.items()
    ]

    assert {v.number for v in versions.superfluous(known)} == gone


def test_the_status_of_a_failed_load_keeps_its_reason() -> None:
    version = Version("m", 3, Path(), State.END, error=DataLoss("Read less bytes than requested"))

    assert version.status == VersionStatus(
        3, State.END, 15, "DATA_LOSS", "Read less bytes than requested"
    )
