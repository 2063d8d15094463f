"""What a body is and what the answer shall be: Content-Type and Accept, where they name other than
JSON.

TensorFlow Serving looks at neither header, so a type that is none of ours counts as JSON: curl says
application/x-www-form-urlencoded of a JSON body.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from headrace.protocol.errors import InvalidArgument, UnsupportedMedia
from headrace.protocol.faults import Fault, our_text


class Media(Enum):
    JSON = "application/json"
    NPY = "application/x-npy"
    NPZ = "application/x-npz"
    PNG = "image/png"
    JPEG = "image/jpeg"

    @property
    def is_image(self) -> bool:
        return self in PICTURE_STARTS


PICTURE_STARTS = {Media.PNG: b"\x89PNG\r\n\x1a\n", Media.JPEG: b"\xff\xd8\xff"}
_STARTS = {**PICTURE_STARTS, Media.NPY: b"\x93NUMPY", Media.NPZ: b"PK\x03\x04", Media.JSON: b"{"}
_WORDS = {
    Media.PNG: "a PNG picture",
    Media.JPEG: "a JPEG picture",
    Media.NPY: "an npy file",
    Media.NPZ: "a zip archive, as an npz file is",
    Media.JSON: "JSON",
}
_BY_CONTENT_TYPE = {media.value.encode(): media for media in Media} | {b"image/jpg": Media.JPEG}
_BY_ACCEPT = {media.value.encode(): media for media in (Media.JSON, Media.NPY, Media.NPZ)}
# Content types that cannot be meant as JSON.
_NEVER_JSON = (b"image/", b"application/x-np", b"multipart/")


def of_request(headers: Mapping[bytes, bytes]) -> Media:
    content_type = headers.get(b"content-type")
    if content_type is None or content_type == b"application/json":
        return Media.JSON
    essence = content_type.partition(b";")[0].strip().lower()
    media = _BY_CONTENT_TYPE.get(essence, Media.JSON)
    if media is Media.JSON and essence.startswith(_NEVER_JSON):
        supported = ", ".join(media.value for media in Media)
        raise UnsupportedMedia(
            f'Content-Type "{essence[:60].decode("latin-1")}" is not supported here; these are: '
            f"{supported}"
        )
    return media


def of_answer(headers: Mapping[bytes, bytes]) -> Media:
    """The first of the types we can write that has the highest weight; JSON when none is asked
    for."""
    accept = headers.get(b"accept")
    if accept is None or b"application/x-np" not in accept.lower():
        return Media.JSON
    best, best_weight = Media.JSON, 0.0
    for part in accept.lower().split(b","):
        essence, *parameters = part.split(b";")
        media = _BY_ACCEPT.get(essence.strip())
        if media is None:
            continue
        weight = _weight(parameters)
        if weight > best_weight:
            best, best_weight = media, weight
    return best


def explain(body: bytes, media: Media, error: InvalidArgument) -> None:
    """For a body that was rejected as ``media``: raises a better error where its first bytes are
    those of another type."""
    other = _by_first_bytes(body)
    if other is None or other is media:
        return
    hint = f" (send it with Content-Type: {other.value})"
    fault = Fault("content_type", (), _WORDS[media], _WORDS[other], facts={"hint": hint})
    raise InvalidArgument(our_text(fault), fault=fault) from error


def _by_first_bytes(body: bytes) -> Media | None:
    for media, start in _STARTS.items():
        if body.startswith(start):
            return media
    return None


def _weight(parameters: list[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.strip().partition(b"=")
        if name == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
