"""REST paths: what a caller writes is what a server reads."""

from __future__ import annotations

import pytest

from headrace.protocol import rest_paths
from headrace.protocol.model_spec import ModelSpec

SPECS = [
    (ModelSpec("m"), "/v1/models/m"),
    (ModelSpec("m", version=7), "/v1/models/m/versions/7"),
    (ModelSpec("m", label="a b"), "/v1/models/m/labels/a%20b"),
    (ModelSpec("a/b:c"), "/v1/models/a%2Fb%3Ac"),
    (ModelSpec("é", label="/"), "/v1/models/%C3%A9/labels/%2F"),
]


@pytest.mark.parametrize(("spec", "path"), SPECS)
def test_a_path_names_its_model(spec: ModelSpec, path: str) -> None:
    assert rest_paths.path(spec) == path
    match = rest_paths.MODEL.fullmatch(path.encode())
    assert match and rest_paths.model_spec(match, errors="strict") == spec


@pytest.mark.parametrize("verb", ["predict", "classify", "regress"])
def test_a_verb_ends_the_path(verb: str) -> None:
    path = rest_paths.path(ModelSpec("m", version=7), f":{verb}")
    match = rest_paths.INFERENCE.fullmatch(path.encode())
    assert match and match[4] == verb.encode()
    assert rest_paths.INFERENCE.fullmatch(path.upper().encode()) is None


@pytest.mark.parametrize("digits", ["9223372036854775808", "1" * 5000])
def test_a_version_beyond_64_bits_is_no_version(digits: str) -> None:
    match = rest_paths.MODEL.fullmatch(f"/v1/models/m/versions/{digits}".encode())
    assert match
    with pytest.raises(OverflowError):
        rest_paths.model_spec(match, errors="strict")


def test_bytes_that_are_not_utf_8_are_decoded_as_the_server_wants_them() -> None:
    match = rest_paths.MODEL.fullmatch(b"/v1/models/%ff")
    assert match
    assert rest_paths.model_spec(match, errors="surrogateescape").name == "\udcff"
    with pytest.raises(UnicodeDecodeError):
        rest_paths.model_spec(match, errors="strict")
