"""Which call a REST request line is, as TensorFlow Serving decides it."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from enum import Enum

from headrace.protocol import rest_paths
from headrace.protocol.model_spec import ModelSpec

_API = re.compile(rb"(?i)/v1/.*")
_VALID = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?#\[\]-]|%[0-9A-Fa-f]{2})*")
_ORIGIN = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_NO_MODEL = ModelSpec("")
# Targets that strangers make up must not fill the memory.
_CACHED_ROUTES = 1024
_CACHED_BYTES = 256


class Kind(Enum):
    PREDICT = "predict"
    CLASSIFY = "classify"
    REGRESS = "regress"
    STATUS = "status"
    METADATA = "metadata"
    LIST = "list"
    OPTIONS = "options"
    NAMELESS = "nameless"
    MALFORMED = "malformed"
    VERSION_TOO_LONG = "version too long"
    NOT_FOUND = "not found"
    BAD_TARGET = "bad target"


@dataclass(frozen=True, slots=True)
class Route:
    kind: Kind
    spec: ModelSpec = _NO_MODEL


def find(method: str, target: bytes) -> Route:
    """``target`` is the whole request target: TensorFlow Serving takes the query for a part of the
    path."""
    if len(target) <= _CACHED_BYTES:
        return _find_cached(method, target)
    return _find(method, target)


def _find(method: str, target: bytes) -> Route:
    if not target.startswith(b"/"):
        target = _ORIGIN.sub(b"", target, count=1) or b"/"
    if not _VALID.fullmatch(target):
        return Route(Kind.BAD_TARGET)
    if not _API.fullmatch(target):
        return Route(Kind.NOT_FOUND)
    match method:
        case "OPTIONS":
            return Route(Kind.OPTIONS)
        case "POST":
            return _find_inference(target)
        case "GET":
            return _find_question(target)
    return Route(Kind.MALFORMED)


_find_cached = functools.lru_cache(maxsize=_CACHED_ROUTES)(_find)


def _find_inference(target: bytes) -> Route:
    match = rest_paths.INFERENCE.fullmatch(target)
    if match is None:
        return Route(Kind.MALFORMED)
    return _route(Kind(match[4].decode()), match)


def _find_question(target: bytes) -> Route:
    match = rest_paths.MODEL.fullmatch(target)
    if match is None:
        return Route(Kind.MALFORMED)
    if match[1] is None:
        is_list = target.lower() == rest_paths.MODELS.encode()
        return Route(Kind.LIST if is_list else Kind.NAMELESS)
    # The pattern takes /METADATA; TensorFlow Serving then answers with the status.
    return _route(Kind.METADATA if match[4] == b"metadata" else Kind.STATUS, match)


def _route(kind: Kind, match: re.Match[bytes]) -> Route:
    try:
        return Route(kind, rest_paths.model_spec(match, errors="surrogateescape"))
    except OverflowError:
        return Route(Kind.VERSION_TOO_LONG)
