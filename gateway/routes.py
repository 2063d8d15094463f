"""Which call a REST path is: TensorFlow Serving's own patterns over the path as it was sent, and
/schema beside."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from headrace.protocol.errors import InvalidArgument, NotFound
from headrace.protocol.model_spec import ModelSpec

NO_SUCH_PATH = (
    "no such path; here are POST /v1/models/NAME[/versions/N|/labels/L]:predict, :classify and "
    ":regress, "
    "GET /v1/models/NAME[/versions/N|/labels/L][/metadata|/schema], "
    "and GET /v1/models, /docs, /openapi.json, /readyz, /livez and /metrics"
)
_WHICH = rb"(?:(?i:/versions/)(\d+)|(?i:/labels/)([^/:]+))?"
# Blind to case but for the verb, as TensorFlow Serving is.
_INFERENCE = re.compile(rb"(?i:/v1/models/)([^/:]+)" + _WHICH + rb":(predict|classify|regress)")
_ABOUT = re.compile(rb"(?i:/v1/models/)([^/:]+)" + _WHICH + rb"(/(?i:metadata)|/schema)?")
_MAX_INT64 = 2**63 - 1
_KEPT_BYTES = 200


class Kind(Enum):
    PREDICT = "predict"
    CLASSIFY = "classify"
    REGRESS = "regress"
    STATUS = "status"
    METADATA = "metadata"
    SCHEMA = "schema"

    @property
    def method(self) -> str:
        return "POST" if self in _POSTED else "GET"


_POSTED = (Kind.PREDICT, Kind.CLASSIFY, Kind.REGRESS)
_VERBS = {kind.value.encode(): kind for kind in _POSTED}
_ENDS = {b"/metadata": Kind.METADATA, b"/schema": Kind.SCHEMA}


@dataclass(frozen=True, slots=True)
class Route:
    kind: Kind
    target: ModelSpec

    @property
    def path(self) -> str:
        """The same question to the backend."""
        which = ""
        if self.target.version is not None:
            which = f"/versions/{self.target.version}"
        elif self.target.label is not None:
            which = f"/labels/{quote(self.target.label, safe='')}"
        end = "/metadata" if self.kind is Kind.METADATA else ""
        return f"/v1/models/{quote(self.target.name, safe='')}{which}{end}"


def find(path: bytes) -> Route:
    # The same few paths come over and over; long ones are not worth their room.
    return _kept(path) if len(path) <= _KEPT_BYTES else _find(path)


def _find(path: bytes) -> Route:
    if match := _INFERENCE.fullmatch(path):
        return Route(_VERBS[match[4]], _target(match))
    if match := _ABOUT.fullmatch(path):
        # The pattern takes /METADATA; TensorFlow Serving then answers with the status.
        return Route(_ENDS.get(match[4], Kind.STATUS), _target(match))
    raise NotFound(NO_SUCH_PATH)


_kept = lru_cache(maxsize=1024)(_find)


def _target(match: re.Match[bytes]) -> ModelSpec:
    model, version, label = match[1], match[2], match[3]
    if version is not None and (len(version) > 40 or int(version) > _MAX_INT64):
        raise InvalidArgument("the version in the path is beyond 64 bits")
    return ModelSpec(
        _decoded(model),
        None if version is None else int(version),
        None if label is None else _decoded(label),
    )


def _decoded(part: bytes) -> str:
    try:
        return unquote_to_bytes(part).decode("utf-8") if b"%" in part else part.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidArgument("the path is not UTF-8") from None
