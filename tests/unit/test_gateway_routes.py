"""Paths to calls of the gateway."""

from __future__ import annotations

import pytest

from gateway import routes
from gateway.routes import Kind
from headrace.protocol.errors import InvalidArgument, NotFound
from headrace.protocol.model_spec import ModelSpec


@pytest.mark.parametrize(
    ("path", "kind", "spec"),
    [
        ("/v1/models/m:predict", Kind.PREDICT, ModelSpec("m")),
        ("/V1/MODELS/m/Versions/7:classify", Kind.CLASSIFY, ModelSpec("m", 7)),
        ("/v1/models/m/labels/a%20b:regress", Kind.REGRESS, ModelSpec("m", label="a b")),
        ("/v1/models/m", Kind.STATUS, ModelSpec("m")),
        ("/v1/models/schema", Kind.STATUS, ModelSpec("schema")),
        ("/v1/models/m/metadata", Kind.METADATA, ModelSpec("m")),
        ("/v1/models/m/METADATA", Kind.STATUS, ModelSpec("m")),
        ("/v1/models/m/versions/7/schema", Kind.SCHEMA, ModelSpec("m", 7)),
    ],
)
def test_a_path_is_a_call(path: str, kind: Kind, spec: ModelSpec) -> None:
    route = routes.find(path.encode())
    assert (route.kind, route.target) == (kind, spec)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/v1/models/m:PREDICT",
        "/v1/models/m/SCHEMA",
        "/v1/models/versions/7",
        "/v1/models/m/metadata/schema",
        "//v1/models/m",
        "/v1/models/m:predict" + "/" * 500,
    ],
)
def test_any_other_path_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        routes.find(path.encode())


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v1/models/m/versions/9223372036854775808", "beyond 64 bits"),
        ("/v1/models/%ff", "not UTF-8"),
    ],
)
def test_a_name_or_version_that_cannot_be_read_is_refused(path: str, error: str) -> None:
    with pytest.raises(InvalidArgument, match=error):
        routes.find(path.encode())


@pytest.mark.parametrize("kind", list(Kind))
def test_only_inference_is_posted(kind: Kind) -> None:
    inference = (Kind.PREDICT, Kind.CLASSIFY, Kind.REGRESS)
    assert kind.method == ("POST" if kind in inference else "GET")


def test_the_backend_is_asked_by_the_same_path() -> None:
    for path in ("/v1/models/m", "/v1/models/m/versions/7/metadata"):
        assert routes.find(path.encode()).path == path
