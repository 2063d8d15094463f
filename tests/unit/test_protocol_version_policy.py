"""Which versions a policy serves."""

from __future__ import annotations

import pytest

from headrace.protocol.version_policy import All, Latest, Specific, VersionPolicy, select


@pytest.mark.parametrize(
    ("policy", "selected"),
    [
        (Latest(1), (12,)),
        (Latest(2), (7, 12)),
        (Latest(9), (1, 7, 12)),
        (All(), (1, 7, 12)),
        (Specific((7, 99)), (7,)),
        (Specific(()), ()),
    ],
)
def test_a_policy_selects_of_what_is_there(
    policy: VersionPolicy, selected: tuple[int, ...]
) -> None:
    assert select(policy, [7, 12, 1]) == selected
