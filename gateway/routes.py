"""Which call a REST path is: TensorFlow Serving's paths, and /schema beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from headrace.protocol import rest_paths
from headrace.protocol.errors import InvalidArgument, NotFound
from headrace.protocol.model_spec import ModelSpec

NO_SUCH_PATH = (
    "no such path; here are POST /v1/models/NAME[/versions/N|/labels/L]:predict, :classify and "
    ":regress, "
    "GET /v1/models/NAME[/versions/N|/labels/L][/metadata|/schema], "
    "and GET /v1/models, /docs, /openapi.json, /readyz, /livez and /metrics"
)
_SCHEMA = re.compile(rest_paths.NAMED_MODEL + rb"/schema")
# Paths that strangers make up must not fill the memory.
_CACHED_ROUTES = 1024
_CACHED_BYTES = 200


class Kind(Enum):
    PREDICT = "predict"
    CLASSIFY = "classify"
    REGRESS = "regress"
    STATUS = "status"
    METADATA = "metadata"
    SCHEMA = "schema"

    @property
    def method(self) -> str:
        return "POST" if self in _INFERENCES else "GET"


_INFERENCES = (Kind.PREDICT, Kind.CLASSIFY, Kind.REGRESS)


@dataclass(frozen=True, slots=True)
class Route:
    kind: Kind
    target: ModelSpec

    @property
    def path(self) -> str:
        """Of the same question to the backend."""
        ending = rest_paths.METADATA if self.kind is Kind.METADATA else ""
        return rest_paths.path(self.target, ending)


def find(path: bytes) -> Route:
    """``path`` as it was sent, without the query."""
    if len(path) <= _CACHED_BYTES:
        return _find_cached(path)
    return _find(path)


def _find(path: bytes) -> Route:
    if match := rest_paths.INFERENCE.fullmatch(path):
        return _route(Kind(match[4].decode()), match)
    match = rest_paths.MODEL.fullmatch(path)
    if match and match[1] is not None:
        # The pattern takes /METADATA; TensorFlow Serving then answers with the status.
        return _route(Kind.METADATA if match[4] == b"metadata" else Kind.STATUS, match)
    if match := _SCHEMA.fullmatch(path):
        return _route(Kind.SCHEMA, match)
    raise NotFound(NO_SUCH_PATH)


_find_cached = lru_cache(maxsize=_CACHED_ROUTES)(_find)


def _route(kind: Kind, match: re.Match[bytes]) -> Route:
    try:
        return Route(kind, rest_paths.model_spec(match, errors="strict"))
    except OverflowError as error:
        raise InvalidArgument(str(error)) from None
    except UnicodeDecodeError:
        raise InvalidArgument("the path is not UTF-8") from None
