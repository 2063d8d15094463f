"""What a body is and what the answer shall be: Content-Type and Accept, where they say anything but
JSON.

TensorFlow Serving looks at neither, so everything that is not one of ours counts as JSON; curl says
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
        return self in (Media.PNG, Media.JPEG)


# How a body begins, and what it is then.
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", Media.PNG, "a PNG picture"),
    (b"\xff\xd8\xff", Media.JPEG, "a JPEG picture"),
    (b"\x93NUMPY", Media.NPY, "an npy file"),
    (b"PK\x03\x04", Media.NPZ, "a zip archive, as an npz file is"),
    (b"{", Media.JSON, "JSON"),
)
_WORDS = {media: word for _, media, word in _BEGINNINGS}
_SENT = {m.value.encode(): m for m in Media} | {b"image/jpg": Media.JPEG}
_ANSWERS = {m.value.encode(): m for m in (Media.JSON, Media.NPY, Media.NPZ)}


def of_request(headers: Mapping[bytes, bytes]) -> Media:
    said = headers.get(b"content-type")
    if said is None or said == b"application/json":
        return Media.JSON
    essence = said.partition(b";")[0].strip().lower()
    media = _SENT.get(essence, Media.JSON)
    if media is Media.JSON and essence.startswith((b"image/", b"application/x-np", b"multipart/")):
        kinds = ", ".join(m.value for m in Media)
        raise UnsupportedMedia(
            f'Content-Type "{essence[:60].decode("latin-1")}" is not taken here; these are: {kinds}'
        )
    return media


def of_answer(headers: Mapping[bytes, bytes]) -> Media:
    """The first of the kinds we can write with the highest weight; JSON when none is asked for."""
    accept = headers.get(b"accept")
    if accept is None or b"application/x-np" not in accept.lower():
        return Media.JSON
    best, weight = Media.JSON, 0.0
    for part in accept.lower().split(b","):
        essence, *parameters = (p.strip() for p in part.split(b";"))
        media = _ANSWERS.get(essence)
        if media is not None and (q := _weight(parameters)) > weight:
            best, weight = media, q
    return best


def explain(body: bytes, sent: Media, refusal: InvalidArgument) -> None:
    """Raises what is the matter with a body that was refused, where its first bytes say that it is
    of another kind."""
    found = next((media for beginning, media, _ in _BEGINNINGS if body.startswith(beginning)), sent)
    if found is sent:
        return
    hint = f" (send it with Content-Type: {found.value})"
    fault = Fault("content_type", (), _WORDS[sent], _WORDS[found], facts={"hint": hint})
    raise InvalidArgument(our_text(fault), fault=fault) from refusal


def _weight(parameters: list[bytes]) -> float:
    for parameter in parameters:
        if parameter.startswith(b"q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0
