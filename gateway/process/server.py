"""Both doors in one event loop: opened together, drained together on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import uvicorn

from gateway.app import App, create_app
from gateway.grpc import GrpcDoor
from gateway.process.connection import Connection, limits
from gateway.process.ports import listen, taken, write_ports
from gateway.settings import Settings
from headrace.http.limits import raise_descriptor_limit
from headrace.http.server import SweepingServer, uvicorn_config
from headrace.protocol.errors import Unavailable

log = logging.getLogger("gateway")


class Server:
    """A gateway that runs until it is stopped; ``stop()`` is what SIGTERM does.

    A worker brings its app, a socket that already listens and what to call once the ports are
    open; it shares its gRPC port.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        app: App | None = None,
        listener: socket.socket | None = None,
        opened: Callable[[dict[str, int]], None] | None = None,
    ) -> None:
        self.settings = settings
        self._app = app
        self._listener = listener
        self._opened = opened or self._announce
        self._http: _Uvicorn | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Unavailable when a port is taken."""
        raise_descriptor_limit(self.settings.max_connections)
        listener = self._listener or listen(self.settings)
        app = self._app or create_app(self.settings)
        grpc = GrpcDoor(app.core, shared=self._listener is not None)
        config = uvicorn_config(
            app,
            Connection,
            limits(self.settings),
            lifespan="on",
            shutdown_s=int(self.settings.drain_s) + 1,
        )
        self._http = _Uvicorn(
            config,
            on_startup=lambda: self._open(grpc, listener),
            on_shutdown=lambda: self._close(grpc, app),
        )
        try:
            self._http.run(sockets=[listener])
        finally:
            if self.settings.port_file:
                Path(self.settings.port_file).unlink(missing_ok=True)
        if self._http.error is not None:
            raise self._http.error

    def stop(self) -> None:
        if self._http is not None:
            self._http.should_exit = True

    async def _open(self, grpc: GrpcDoor, listener: socket.socket) -> None:
        try:
            grpc_port = await grpc.start()
        except OSError as error:
            raise taken(self.settings, "grpc_port", str(error)) from error
        self._opened({"http": listener.getsockname()[1], "grpc": grpc_port})

    def _announce(self, ports: dict[str, int]) -> None:
        write_ports(self.settings, ports)
        log.info("open", extra={"address": self.settings.bind_address, **ports})

    def _close(self, grpc: GrpcDoor, app: App) -> None:
        """Both doors stop accepting at once; the core, closed by the app's lifespan, waits for the
        gRPC calls."""
        app.core.grpc_stopped = asyncio.ensure_future(grpc.stop(grace_s=self.settings.drain_s))


class _Uvicorn(SweepingServer):
    """Opens the gRPC door after its own; a signal that it obeyed ends it with exit code 0."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_startup: Callable[[], Awaitable[None]],
        on_shutdown: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self.error: Unavailable | None = None
        self._on_startup = on_startup
        self._on_shutdown = on_shutdown

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:
            self.error = Unavailable("the gateway could not start; its log says why")
            return
        try:
            await self._on_startup()
        except Unavailable as error:
            self.error = error
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_shutdown()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal once more at its end, which would make a clean drain look like a
        # crash.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield
