"""Why a version failed, in words for who published it: the texts are the servers' own."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.contracts.failures import explain

DAMAGED = "its saved_model.pb is damaged"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Read less bytes than requested", DAMAGED),
        ("Can't parse /models/m/2/saved_model.pb as binary proto", DAMAGED),
        (
            "Op type not registered 'AddQ9' in binary running on host. Make sure the Op and "
            "Kernel are registered",
            "the server does not know its operation AddQ9",
        ),
        (
            "Could not find variable half. This could mean that the variable has been deleted. "
            "Debug info: "
            "container=localhost\n\t [[{{function_node __inference_serving_default_64}}{{node "
            "ReadVariableOp}}]]",
            "its variables are missing",
        ),
        (
            "Unsuccessful TensorSliceReader constructor: Failed to find any matching files for "
            "/models/m/2/variables/variables",
            "its variables are missing",
        ),
        (
            "TensorBundle at /models/m/2/variables/variables shard 0 (4 bytes): Checksum does not "
            "match: stored 1 vs. "
            "calculated on the restored bytes 2",
            "its variables are damaged",
        ),
        ("out of memory\n\t [[node]]", "out of memory"),
        ("", ""),
    ],
)
def test_a_reason_in_plain_words(reason: str, words: str) -> None:
    assert explain(reason, None) == words


def test_which_file_is_short_is_looked_up_where_the_store_is_seen(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    assert explain("Read less bytes than requested", tmp_path) == DAMAGED
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables/variables.data-00000-of-00001").write_bytes(b"")
    reason = explain("Read less bytes than requested", tmp_path)
    assert reason == "its variables are damaged: no variables.index"
