"""The server's REST port: uvicorn in a thread of its own, with libevent's error pages."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from http import HTTPStatus

import uvloop
from httptools import HttpParserError, HttpParserInvalidMethodError

from headrace.http.limits import Limits, raise_descriptor_limit
from headrace.http.protocol import HttpProtocol
from headrace.http.server import SweepingServer, uvicorn_config
from headrace.server.rest.door import ALONE, GONE, RestDoor
from headrace.server.rest.response import page

_METHODS = frozenset({b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})
# What is a method in HTTP, also where the parser does not know it.
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20} [!-~]+ HTTP/1\.[01]\r\n")


class Connection(HttpProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.extensions = {GONE: transport.is_closing, ALONE: self._is_alone}
        super().connection_made(transport)

    def check_head(self) -> HTTPStatus | None:
        status = super().check_head()
        if status is None and self.parser.get_method() not in _METHODS:
            return HTTPStatus.NOT_IMPLEMENTED
        return status

    def parse_error(self, error: HttpParserError, start: bytes) -> HTTPStatus:
        if isinstance(error, HttpParserInvalidMethodError) and _REQUEST_LINE.match(start):
            return HTTPStatus.NOT_IMPLEMENTED
        return super().parse_error(error, start)

    def error_response(self, status: HTTPStatus) -> tuple[str, bytes]:
        response = page(status)
        return response.content_type, response.body

    def _is_alone(self) -> bool:
        return len(self.connections) == 1 and not self.pipeline


class HttpServer:
    """Serves a bound socket from a thread with an event loop; stopping lets running calls end."""

    def __init__(
        self,
        app: RestDoor,
        listener: socket.socket,
        *,
        drain_s: float,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        raise_descriptor_limit(limits.connections)
        shutdown_s = max(1, round(drain_s))
        config = uvicorn_config(app, Connection, limits, lifespan="off", shutdown_s=shutdown_s)
        self.port: int = listener.getsockname()[1]
        self._server = SweepingServer(config)
        self._listener = listener
        self._thread = threading.Thread(target=self._serve, name="rest", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def begin_stop(self) -> None:
        self._server.should_exit = True

    def wait_stopped(self) -> None:
        if self._thread.is_alive():
            self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._server.serve(sockets=[self._listener]))
