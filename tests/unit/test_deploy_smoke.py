"""`make smoke`: golden requests, and comparing answers."""

from __future__ import annotations

import pytest

from deploy.smoke import close


@pytest.mark.parametrize(
    ("wanted", "got", "alike"),
    [
        ([2.5, 3.0], [2.5, 3], True),
        ([2.5], [2.5004], True),
        ([2.5], [2.6], False),
        ([2.5], [2.5, 2.5], False),
        ({"a": [1.0]}, {"a": [1.0]}, True),
        ({"a": [1.0]}, {"b": [1.0]}, False),
        ([1.0], ["NaN"], False),
        (["x"], ["x"], True),
    ],
)
def test_smoke_compares_answers_but_for_the_last_digits(wanted, got, alike):
    assert close(wanted, got) is alike
