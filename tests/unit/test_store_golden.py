"""Golden requests as every part of the project reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.protocol.errors import DataLoss
from headrace.store import golden
from headrace.store.golden import GoldenRequest


def write(version: Path, content: Any) -> Path:
    path = version / golden.FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return version


def test_requests_are_read_with_and_without_outputs(tmp_path: Path) -> None:
    request = {"signature_name": "s", "inputs": {"x": [1]}}
    write(tmp_path, [request, {**request, "outputs": {"y": [2]}}])
    assert golden.read(tmp_path) == [
        GoldenRequest("s", {"x": [1]}, {}),
        GoldenRequest("s", {"x": [1]}, {"y": [2]}),
    ]


def test_a_version_without_the_file_or_with_a_larger_one_has_none(tmp_path: Path) -> None:
    assert golden.read(tmp_path) == []
    write(tmp_path, "{")
    assert golden.read(tmp_path, max_bytes=0) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ({}, "is not a list"),
        ([1], r"\[0\] is not an object"),
        ([{"signature_name": [], "inputs": {}}], r"\[0\]\.signature_name is not a string"),
        ([{"signature_name": "s", "inputs": []}], r"\[0\]\.inputs or \.outputs"),
    ],
    ids=["cut", "deep", "object", "number", "name", "inputs"],
)
def test_a_damaged_file_is_named_with_its_place(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataLoss, match=message):
        golden.read(write(tmp_path, content))


def test_base64_becomes_bytes() -> None:
    assert golden.with_bytes([[{"b64": "YQ=="}], ["a", 1]]) == [[b"a"], ["a", 1]]
