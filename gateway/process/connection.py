"""One caller's connection: limits, a word when the caller is gone, our errors."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import cast

from gateway import errors
from gateway.disconnect import EXTENSION, DisconnectCallbacks
from gateway.settings import Settings, variable
from headrace.http.connection import LimitedHttpProtocol, Limits
from headrace.protocol.errors import InvalidArgument, Unavailable

_REASONS = {
    HTTPStatus.BAD_REQUEST: "the request is not valid HTTP",
    HTTPStatus.EXPECTATION_FAILED: "Expect: of something else than 100-continue",
    HTTPStatus.REQUEST_TIMEOUT: "the request did not arrive in time",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        f"the request's head is too large ({variable('max_header_bytes')}, "
        f"{variable('max_headers')})"
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: f"too many connections ({variable('max_connections')})",
}


def limits(s: Settings) -> Limits:
    return Limits(
        connections=s.max_connections,
        head_bytes=s.max_header_bytes,
        headers=s.max_headers,
        first_byte_s=s.first_byte_s,
        head_s=s.head_s,
        body_s=s.body_s,
        send_s=s.send_s,
        idle_s=s.idle_s,
    )


class Connection(LimitedHttpProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._hang_ups: DisconnectCallbacks = set()
        self._extensions = {EXTENSION: self._hang_ups}
        super().connection_made(cast(asyncio.Transport, transport))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for hang_up in tuple(self._hang_ups):
            hang_up()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]

    def objection(self) -> HTTPStatus | None:
        if b"#" in self.url:
            # TensorFlow Serving takes a fragment for a part of the path.
            return HTTPStatus.BAD_REQUEST
        if any(
            name == b"expect" and value.lower() != b"100-continue" for name, value in self.headers
        ):
            return HTTPStatus.EXPECTATION_FAILED
        return super().objection()

    def refusal(self, status: HTTPStatus) -> tuple[str, bytes]:
        """What does not get as far as a call is refused in the shape of every other error."""
        kind = Unavailable if status is HTTPStatus.SERVICE_UNAVAILABLE else InvalidArgument
        return "application/json", errors.body(kind(_REASONS[status]))
