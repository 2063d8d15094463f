"""An answer of the REST door, and those that every kind of request may get."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from headrace.codec import answers
from headrace.protocol import faults
from headrace.protocol.errors import HeadraceError

JSON = "application/json"
# Libevent's, where TF Serving says nothing.
EMPTY = "text/html; charset=ISO-8859-1"


class Response(NamedTuple):
    status: int
    body: bytes = b""
    content_type: str = JSON
    closes: bool = False

    @property
    def is_api(self) -> bool:
        """Neither one of libevent's pages nor the metrics."""
        return self.content_type in (JSON, EMPTY)


def refusal(error: HeadraceError) -> Response:
    text = faults.serving_text(error.fault) if error.fault else error.message
    return Response(error.http_status, answers.error_body(text))


def page(status: HTTPStatus) -> Response:
    """What libevent says where TF Serving does not get to speak."""
    text = (
        f"<HTML><HEAD>\n<TITLE>{status.value} {status.phrase}</TITLE>\n</HEAD><BODY>\n"
        f"<H1>{status.phrase}</H1>\n</BODY></HTML>\n"
    )
    return Response(status.value, text.encode(), "text/html", closes=True)
