"""uvicorn with what our REST door needs of it: the target as sent, libevent's error pages, a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from http import HTTPStatus

import uvicorn
import uvloop
from httptools import HttpParserInvalidMethodError

from headrace.server.lean import LeanConnection
from headrace.server.rest import TARGET, RestDoor, page

_MAX_HEAD_BYTES = 1 << 20
_LINGER_S = 2.0
_KEEP_ALIVE_S = 300  # libevent, which TF Serving is built on, never closes an idle connection


class _Protocol(LeanConnection):
    """One connection."""

    _head_bytes = 0
    _is_in_head = True
    _is_refused = False

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._is_in_head = False
        self.scope[TARGET] = self.url  # type: ignore[literal-required]

    def send_400_response(self, msg: str) -> None:
        is_method = isinstance(sys.exception(), HttpParserInvalidMethodError)
        self._refuse(HTTPStatus.NOT_IMPLEMENTED if is_method else HTTPStatus.BAD_REQUEST)

    def _refuse(self, status: HTTPStatus) -> None:
        answer = page(status)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {answer.content_type}\r\n"
            f"content-length: {len(answer.body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + answer.body)
        self.transport.write_eof()
        # Closed at once, a connection whose other end still sends would be reset, and the answer lost with it.
        self._is_refused = True
        self.loop.call_later(_LINGER_S, self.transport.close)


class HttpServer:
    """Serves a bound socket from a thread with an event loop; stopping lets the calls under way end."""

    def __init__(self, app: RestDoor, listener: socket.socket, *, drain_s: float) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(drain_s)),
        )
        self.port: int = listener.getsockname()[1]
        self._server = uvicorn.Server(config)
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
