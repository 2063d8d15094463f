"""The model card as every part of the project reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.store import card


def write(version: Path, text: str) -> Path:
    path = version / card.FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return version


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "[" * 100_000], ids=["blank", "cut", "list", "deep"]
)
def test_a_card_that_cannot_be_read_is_empty(tmp_path: Path, text: str) -> None:
    assert card.read(tmp_path) == {}
    assert card.read(write(tmp_path, text)) == {}


def test_a_card_of_an_earlier_release_is_read_under_the_present_names(tmp_path: Path) -> None:
    check = {"name": "files", "passed": True}
    earlier = {"metric": {"may_lose": 0.1}, "checks": [{**check, "told": "3 files"}]}
    assert card.read(write(tmp_path, json.dumps(earlier))) == {
        "metric": {"max_regression": 0.1},
        "checks": [{**check, "detail": "3 files"}],
    }


def test_changed_files_are_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    recorded = {"files": card.checksums(tmp_path)}
    assert card.changed_files(recorded, tmp_path) == []
    (tmp_path / "a").write_text("other")
    (tmp_path / "b").unlink()
    (tmp_path / "c").write_text("new")
    assert card.changed_files(recorded, tmp_path) == ["a", "b", "c"]
    assert card.changed_files({}, tmp_path) == []
