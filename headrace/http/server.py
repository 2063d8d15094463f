"""uvicorn's server with the connections of protocol.py, over which it sweeps."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Literal

import uvicorn

from headrace.http.limits import Limits
from headrace.http.protocol import HttpProtocol

# uvicorn ticks ten times a second.
_SWEEP_TICKS = 5
_NEVER_S = 1 << 30


def uvicorn_config(
    app: Any,
    protocol: type[HttpProtocol],
    limits: Limits,
    *,
    lifespan: Literal["on", "off"],
    shutdown_s: int,
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=functools.partial(protocol, limits=limits),  # type: ignore[arg-type]
        ws="none",
        lifespan=lifespan,
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        # The sweep closes idle connections.
        timeout_keep_alive=_NEVER_S,
        timeout_graceful_shutdown=shutdown_s,
    )


class SweepingServer(uvicorn.Server):
    """Ends connections that have stood still for too long."""

    async def on_tick(self, counter: int) -> bool:
        if counter % _SWEEP_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, HttpProtocol):
                    connection.sweep(now)
        return await super().on_tick(counter)
