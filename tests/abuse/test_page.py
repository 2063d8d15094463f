"""docs/reference/abuse.md says what the cases say."""

from __future__ import annotations

from tests.abuse import page
from tests.live import ROOT


def test_the_page_is_made_from_the_cases() -> None:
    assert (ROOT / "docs" / "reference" / "abuse.md").read_text() == page.page()
