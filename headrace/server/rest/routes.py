"""Which call a REST request line is: TensorFlow Serving's own patterns, over the target as it was
sent."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote_to_bytes

from headrace.protocol.model_spec import ModelSpec

_INT64_MAX = (1 << 63) - 1
_CHOICE = rb"(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
_INFERENCE = re.compile(rb"(?i)/v1/models/([^/:]+)" + _CHOICE + rb":(classify|regress|predict)")
_MODEL = re.compile(rb"(?i)/v1/models(?:/([^/:]+))?" + _CHOICE + rb"(?:/(metadata))?")
_API = re.compile(rb"(?i)/v1/.*")
_VALID = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?#\[\]-]|%[0-9A-Fa-f]{2})*")
_ORIGIN = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


_NOBODY = ModelSpec("")
# What strangers ask for must not fill the memory.
_KEPT, _KEPT_BYTES = 1024, 256


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
    spec: ModelSpec = _NOBODY


def find(method: str, target: bytes) -> Route:
    """``target`` is the whole request target: the query belongs to it, as TF Serving reads it."""
    return _kept(method, target) if len(target) <= _KEPT_BYTES else _find(method, target)


def _find(method: str, target: bytes) -> Route:
    if not target.startswith(b"/"):
        target = _ORIGIN.sub(b"", target, count=1) or b"/"
    if not _VALID.fullmatch(target):
        return Route(Kind.BAD_TARGET)
    if not _API.fullmatch(target):
        return Route(Kind.NOT_FOUND)
    if method == "OPTIONS":
        return Route(Kind.OPTIONS)
    if method == "POST" and (match := _INFERENCE.fullmatch(target)):
        # The pattern is blind to case, what follows it is not.
        verb = match[4].decode()
        return _to(Kind(verb), match) if verb.islower() else Route(Kind.MALFORMED)
    if method == "GET" and (match := _MODEL.fullmatch(target)):
        if match[1] is None:
            return Route(Kind.LIST if target.lower() == b"/v1/models" else Kind.NAMELESS)
        return _to(Kind.METADATA if match[4] == b"metadata" else Kind.STATUS, match)
    return Route(Kind.MALFORMED)


_kept = functools.lru_cache(maxsize=_KEPT)(_find)


def _to(kind: Kind, match: re.Match[bytes]) -> Route:
    version = None if match[2] is None else int(match[2][:40])
    if version is not None and (version > _INT64_MAX or len(match[2]) > 40):
        return Route(Kind.VERSION_TOO_LONG)
    label = None if match[3] is None else _text(match[3])
    return Route(kind, ModelSpec(_text(match[1]), version, label))


def _text(encoded: bytes) -> str:
    return unquote_to_bytes(encoded).decode("utf-8", "surrogateescape")
