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
from gateway.grpc import GrpcDoor
from gateway.process.connection import Connection, limits
from gateway.settings import Settings, variable
from headrace.http.connection import LimitedServer, allow_descriptors
from headrace.protocol.errors import Unavailable

log = logging.getLogger("gateway")


class Server:
    """A gateway that can be run to its end; ``stop()`` is what SIGTERM does.

    One of several workers is given its app, a socket that already listens and whom to tell that it
    is open; its gRPC port is shared.
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
        self._tell = opened or self._told
        self._http: _Uvicorn | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Unavailable when a port is taken."""
        allow_descriptors(self.settings.max_connections)
        listener = self._listener or listen(self.settings)
        app = self._app or create_app(self.settings)
        grpc = GrpcDoor(app.core, shared=self._listener is not None)
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
            # The sweep sees to it.
            timeout_keep_alive=1 << 30,
            timeout_graceful_shutdown=int(self.settings.drain_s) + 1,
        )

    async def _opened(self, grpc: GrpcDoor, listener: socket.socket) -> None:
        try:
            grpc_port = await grpc.start()
        except OSError as e:
            raise taken(self.settings, "grpc_port", str(e)) from e
        self._tell({"http": listener.getsockname()[1], "grpc": grpc_port})

    def _told(self, ports: dict[str, int]) -> None:
        write_ports(self.settings, ports)
        log.info("open", extra={"address": self.settings.bind_address, **ports})

    def _close(self, grpc: GrpcDoor, app: App) -> None:
        """Both doors stop accepting at once; the core, closed by the app's lifespan, waits for the
        gRPC calls."""
        app.core.grpc_stopped = asyncio.ensure_future(grpc.stop(grace_s=self.settings.drain_s))


class _Uvicorn(LimitedServer):
    """uvicorn with our gRPC door opened after its own, and an exit that is 0 after a signal it
    obeyed."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        opened: Callable[[], Awaitable[None]],
        closing: Callable[[], None],
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
        # uvicorn raises the signal once more at its end, which would make a clean drain look like a
        # crash.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


def listen(s: Settings) -> socket.socket:
    """The HTTP port, open. Unavailable when it cannot be had."""
    family = socket.AF_INET6 if ":" in s.bind_address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((s.bind_address, s.http_port))
        listener.listen(2048)
    except OSError as e:
        listener.close()
        raise taken(s, "http_port", e.strerror or str(e)) from e
    listener.setblocking(False)
    return listener


def taken(s: Settings, name: str, why: str) -> Unavailable:
    """A port that cannot be had, as one sentence."""
    port = f"port {getattr(s, name)} on {s.bind_address}"
    return Unavailable(f"{port} cannot be opened ({why}); set {variable(name)} to a free one")


def write_ports(s: Settings, ports: dict[str, int]) -> None:
    if s.port_file:
        _write_whole(Path(s.port_file), json.dumps(ports) + "\n")


def _write_whole(path: Path, text: str) -> None:
    """A reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text)
    aside.replace(path)
