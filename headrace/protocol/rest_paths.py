"""TensorFlow Serving's REST paths: the patterns a server reads, and the paths a caller sends.

Patterns match the path as it was sent, still percent-encoded. Like TensorFlow Serving's they ignore
case, except in the verb at the end.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

from headrace.protocol.model_spec import ModelSpec

MODELS = "/v1/models"
METADATA = "/metadata"

_MODELS = rb"(?i:/v1/models)"
_NAME = rb"/([^/:]+)"
_VERSION_OR_LABEL = rb"(?:(?i:/versions/)(\d+)|(?i:/labels/)([^/:]+))?"
_METADATA = rb"(?:/((?i:metadata)))?"
# Groups of each pattern here: name, version, label.
NAMED_MODEL = _MODELS + _NAME + _VERSION_OR_LABEL
# The fourth group is the verb.
INFERENCE = re.compile(NAMED_MODEL + rb":(predict|classify|regress)")
# The fourth group is "metadata", in any case. The name may be missing.
MODEL = re.compile(_MODELS + rb"(?:" + _NAME + rb")?" + _VERSION_OR_LABEL + _METADATA)

_MAX_INT64 = (1 << 63) - 1
# int() of very long texts takes long.
_MAX_DIGITS = 40


def path(spec: ModelSpec, ending: str = "") -> str:
    """``ending`` is METADATA, or a colon and a verb."""
    text = f"{MODELS}/{quote(spec.name, safe='')}"
    if spec.version is not None:
        text += f"/versions/{spec.version}"
    if spec.label is not None:
        text += f"/labels/{quote(spec.label, safe='')}"
    return text + ending


def model_spec(match: re.Match[bytes], *, errors: str) -> ModelSpec:
    """What a match of the patterns above names; ``errors`` as in bytes.decode().

    OverflowError for a version beyond 64 bits.
    """
    name, digits, label = match[1], match[2], match[3]
    version = None
    if digits is not None:
        version = int(digits[:_MAX_DIGITS])
        if len(digits) > _MAX_DIGITS or version > _MAX_INT64:
            raise OverflowError("the version in the path is beyond 64 bits")
    return ModelSpec(
        _decoded(name, errors), version, None if label is None else _decoded(label, errors)
    )


def _decoded(part: bytes, errors: str) -> str:
    return unquote_to_bytes(part).decode("utf-8", errors)
