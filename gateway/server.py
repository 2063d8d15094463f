"""Both doors in one event loop: opened together, drained together on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import uvicorn

from gateway.app import App, create_app
from gateway.connection import Connection, limits
from gateway.grpc import GrpcDoor
from gateway.settings import Settings, variable
from headrace.server.connection import LimitedServer, allow_descriptors
from headrace.wire.errors import Unavailable

log = logging.getLogger("gateway")


class Server:
    """A gateway that can be run to its end; ``stop()`` is what SIGTERM does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._http: _Uvicorn | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Unavailable when a port is taken."""
        allow_descriptors(self.settings.max_connections)
        listener = _listen(self.settings)
        app = create_app(self.settings)
        grpc = GrpcDoor(app.core)
        self._http = _Uvicorn(
            self._config(app),
            opened=lambda: self._opened(grpc, listener),
            closing=lambda: self._close(grpc, app),
        )
        try:
            self._http.run(sockets=[listener])
        finally:
            if self.settings.port_file:
                Path(self.settings.port_file).unlink(missing_ok=True)
        if self._http.trouble is not None:
            raise self._http.trouble

    def stop(self) -> None:
        if self._http is not None:
            self._http.should_exit = True

    def _config(self, app: App) -> uvicorn.Config:
        return uvicorn.Config(
            app,
            loop="uvloop",
            http=functools.partial(Connection, limits=limits(self.settings)),  # type: ignore[arg-type]
            ws="none",
            proxy_headers=False,
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=1 << 30,  # the sweep sees to it
            timeout_graceful_shutdown=int(self.settings.drain_s) + 1,
        )

    async def _opened(self, grpc: GrpcDoor, listener: socket.socket) -> None:
        s = self.settings
        try:
            grpc_port = await grpc.start()
        except OSError as e:
            raise Unavailable(
                f"port {s.grpc_port} on {s.bind_address} cannot be opened; set {variable('grpc_port')} to a free one"
            ) from e
        ports = {"http": listener.getsockname()[1], "grpc": grpc_port}
        if s.port_file:
            _write_whole(Path(s.port_file), json.dumps(ports) + "\n")
        log.info("open", extra={"address": s.bind_address, **ports})

    def _close(self, grpc: GrpcDoor, app: App) -> None:
        """Both doors stop accepting at once; the core, closed by the app's lifespan, waits for the gRPC calls."""
        app.core.last_calls = asyncio.ensure_future(grpc.stop(grace_s=self.settings.drain_s))


class _Uvicorn(LimitedServer):
    """uvicorn with our gRPC door opened after its own, and an exit that is 0 after a signal it obeyed."""

    def __init__(
        self, config: uvicorn.Config, *, opened: Callable[[], Awaitable[None]], closing: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.trouble: Unavailable | None = None
        self._opened = opened
        self._closing = closing

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:
            self.trouble = Unavailable("the gateway could not start; its log says why")
            return
        try:
            await self._opened()
        except Unavailable as e:
            self.trouble, self.should_exit = e, True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal once more at its end, which would make a clean drain look like a crash.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


def _listen(s: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in s.bind_address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((s.bind_address, s.http_port))
        listener.listen(2048)
    except OSError as e:
        listener.close()
        raise Unavailable(
            f"port {s.http_port} on {s.bind_address} cannot be opened ({e.strerror}); "
            f"set {variable('http_port')} to a free one"
        ) from e
    listener.setblocking(False)
    return listener


def _write_whole(path: Path, text: str) -> None:
    """A reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text)
    aside.replace(path)
