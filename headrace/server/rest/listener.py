"""uvicorn with what our REST door needs of it: the target as sent, libevent's error pages, a thread
of its own."""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import threading
from http import HTTPStatus

import uvicorn
import uvloop
from httptools import HttpParserError, HttpParserInvalidMethodError

from headrace.http.connection import LimitedHttpProtocol, LimitedServer, Limits, allow_descriptors
from headrace.server.rest.door import ALONE, GONE, TARGET, RestDoor
from headrace.server.rest.response import page

_NEVER_S = 1 << 30
_METHODS = frozenset({b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})
# What HTTP calls a method may be more than the parser knows.
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20} [!-~]+ HTTP/1\.[01]\r\n")


class _Protocol(LimitedHttpProtocol):
    """One connection."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.scope[TARGET] = self.url  # type: ignore[literal-required]
        self.scope[GONE] = self.transport.is_closing  # type: ignore[literal-required]
        self.scope[ALONE] = self._is_alone  # type: ignore[literal-required]

    def _is_alone(self) -> bool:
        return len(self.connections) == 1 and not self.pipeline

    def objection(self) -> HTTPStatus | None:
        status = super().objection()
        if status is None and self.parser.get_method() not in _METHODS:
            return HTTPStatus.NOT_IMPLEMENTED
        return status

    def fault(self, error: HttpParserError, data: bytes) -> HTTPStatus:
        is_method = isinstance(error, HttpParserInvalidMethodError) and _REQUEST_LINE.match(data)
        return HTTPStatus.NOT_IMPLEMENTED if is_method else super().fault(error, data)

    def refusal(self, status: HTTPStatus) -> tuple[str, bytes]:
        answer = page(status)
        return answer.content_type, answer.body


class HttpServer:
    """Serves a bound socket from a thread with an event loop; stopping lets the calls under way
    end."""

    def __init__(
        self,
        app: RestDoor,
        listener: socket.socket,
        *,
        drain_s: float,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        allow_descriptors(limits.connections)
        config = uvicorn.Config(
            app,
            http=functools.partial(_Protocol, limits=limits),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            # The sweep sees to it.
            timeout_keep_alive=_NEVER_S,
            timeout_graceful_shutdown=max(1, round(drain_s)),
        )
        self.port: int = listener.getsockname()[1]
        self._server = LimitedServer(config)
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
