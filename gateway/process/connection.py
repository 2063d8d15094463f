"""One connection to the gateway: its limits, our errors, and a signal when the caller leaves."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from gateway import errors
from gateway.disconnect import EXTENSION, DisconnectCallbacks
from gateway.settings import Settings
from headrace.http.limits import Limits
from headrace.http.protocol import HttpProtocol
from headrace.protocol.errors import InvalidArgument, Unavailable
from headrace.settings import variable

_REASONS = {
    HTTPStatus.BAD_REQUEST: "the request is not valid HTTP",
    HTTPStatus.EXPECTATION_FAILED: "the Expect header is not 100-continue",
    HTTPStatus.REQUEST_TIMEOUT: "the request did not arrive in time",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        f"the request's head is too large ({variable('max_header_bytes')}, "
        f"{variable('max_headers')})"
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: f"too many connections ({variable('max_connections')})",
}


def limits(settings: Settings) -> Limits:
    return Limits(
        connections=settings.max_connections,
        head_bytes=settings.max_header_bytes,
        headers=settings.max_headers,
        first_byte_s=settings.first_byte_s,
        head_s=settings.head_s,
        body_s=settings.body_s,
        send_s=settings.send_s,
        idle_s=settings.idle_s,
    )


class Connection(HttpProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._disconnect_callbacks: DisconnectCallbacks = set()
        self.extensions = {EXTENSION: self._disconnect_callbacks}
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for callback in tuple(self._disconnect_callbacks):
            callback()

    def check_head(self) -> HTTPStatus | None:
        if b"#" in self.url:
            # TensorFlow Serving takes a fragment for a part of the path.
            return HTTPStatus.BAD_REQUEST
        if self.expects_otherwise:
            return HTTPStatus.EXPECTATION_FAILED
        return super().check_head()

    def error_response(self, status: HTTPStatus) -> tuple[str, bytes]:
        """What does not get as far as a call is refused in the form of every other error."""
        reason = _REASONS[status]
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            return "application/json", errors.body(Unavailable(reason))
        return "application/json", errors.body(InvalidArgument(reason))
