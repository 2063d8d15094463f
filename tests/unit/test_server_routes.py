"""Request lines to calls, as TensorFlow Serving's patterns have it."""

from __future__ import annotations

import pytest

from headrace.protocol.model_spec import ModelSpec
from headrace.server.rest import routes
from headrace.server.rest.routes import Kind


@pytest.mark.parametrize(
    ("method", "target", "kind", "spec"),
    [
        ("POST", "/v1/models/m:predict", Kind.PREDICT, ModelSpec("m")),
        ("POST", "/V1/MODELS/m:predict", Kind.PREDICT, ModelSpec("m")),
        ("POST", "/v1/models/m/versions/007:predict", Kind.PREDICT, ModelSpec("m", 7)),
        ("POST", "/v1/models/m/labels/a%20b:predict", Kind.PREDICT, ModelSpec("m", label="a b")),
        ("POST", "/v1/models/a%2Fb%3Ac:predict", Kind.PREDICT, ModelSpec("a/b:c")),
        ("POST", "/v1/models/a+b:predict", Kind.PREDICT, ModelSpec("a+b")),
        ("POST", "/v1/models/m:classify", Kind.CLASSIFY, ModelSpec("m")),
        ("GET", "http://host:1/v1/models/m", Kind.STATUS, ModelSpec("m")),
        ("GET", "/v1/models/m?x=1", Kind.STATUS, ModelSpec("m?x=1")),
        ("GET", "/v1/models/m/labels/l", Kind.STATUS, ModelSpec("m", label="l")),
        ("GET", "/v1/models/m/versions/3/metadata", Kind.METADATA, ModelSpec("m", 3)),
        ("GET", "/v1/models/m/METADATA", Kind.STATUS, ModelSpec("m")),
        ("GET", "/v1/models", Kind.LIST, ModelSpec("")),
        ("GET", "/v1/models/versions/3", Kind.NAMELESS, ModelSpec("")),
    ],
)
def test_what_is_a_call(method: str, target: str, kind: Kind, spec: ModelSpec) -> None:
    route = routes.find(method, target.encode())

    assert (route.kind, route.spec) == (kind, spec)


@pytest.mark.parametrize(
    ("method", "target", "kind"),
    [
        ("POST", "/v1/models/m:PREDICT", Kind.MALFORMED),
        ("POST", "/v1/models/m:predict?x=1", Kind.MALFORMED),
        ("POST", "/v1/models/m:predict#f", Kind.MALFORMED),
        ("POST", "/v1/models/m/versions/1/labels/l:predict", Kind.MALFORMED),
        ("GET", "/v1/models/m:predict", Kind.MALFORMED),
        ("HEAD", "/v1/models/m", Kind.MALFORMED),
        ("POST", "/v1/models/m/versions/9223372036854775808:predict", Kind.VERSION_TOO_LONG),
        ("GET", "/v1/models/m/versions/" + "9" * 5000, Kind.VERSION_TOO_LONG),
        ("OPTIONS", "/v1/anything", Kind.OPTIONS),
        ("GET", "/", Kind.NOT_FOUND),
        ("GET", "/v1", Kind.NOT_FOUND),
        ("GET", "/v2/models/m", Kind.NOT_FOUND),
        ("GET", "//v1/models/m", Kind.NOT_FOUND),
        ("GET", "/v1/models/m%zz", Kind.BAD_TARGET),
        ("GET", "/v1/models/é", Kind.BAD_TARGET),
        ("GET", "*", Kind.NOT_FOUND),
    ],
)
def test_what_is_none(method: str, target: str, kind: Kind) -> None:
    assert routes.find(method, target.encode()).kind is kind
