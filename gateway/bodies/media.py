"""What a body is and what the answer shall be: Content-Type and Accept, where they say anything but JSON.

TensorFlow Serving looks at neither, so everything that is not one of ours counts as JSON; curl says
application/x-www-form-urlencoded of a JSON body.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from gateway.errors import UnsupportedMedia


class Media(Enum):
    JSON = "application/json"
    NPY = "application/x-npy"
    NPZ = "application/x-npz"
    PNG = "image/png"
    JPEG = "image/jpeg"

    @property
    def is_image(self) -> bool:
        return self in (Media.PNG, Media.JPEG)


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
        raise UnsupportedMedia(f'Content-Type "{essence[:60].decode("latin-1")}" is not taken here; these are: {kinds}')
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


def _weight(parameters: list[bytes]) -> float:
    for parameter in parameters:
        if parameter.startswith(b"q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0
