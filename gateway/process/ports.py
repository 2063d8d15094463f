"""The two ports of the gateway: opened or reserved for workers, and written to the port file."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.settings import Settings
from headrace.protocol.errors import Unavailable
from headrace.settings import variable
from headrace.store import folders

_BACKLOG = 2048


def listen(settings: Settings) -> socket.socket:
    """The HTTP port, open. Unavailable when it is taken."""
    listener = socket.socket(_family(settings), socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.bind_address, settings.http_port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise taken(settings, "http_port", error.strerror or str(error)) from error
    listener.setblocking(False)
    return listener


@contextmanager
def reserve(settings: Settings) -> Iterator[socket.socket]:
    """The gRPC port, bound but not listening: other gateways cannot have it, workers can share it.

    Unavailable when it is taken.
    """
    family, address = _family(settings), (settings.bind_address, settings.grpc_port)
    with socket.socket(family) as probe, socket.socket(family) as reserved:
        try:
            # Without SO_REUSEPORT this fails where anybody else has the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.close()
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reserved.bind(address)
        except OSError as error:
            raise taken(settings, "grpc_port", error.strerror or str(error)) from error
        yield reserved


def taken(settings: Settings, field: str, reason: str) -> Unavailable:
    """For a port that cannot be opened."""
    port = f"port {getattr(settings, field)} on {settings.bind_address}"
    return Unavailable(f"{port} cannot be opened ({reason}); set {variable(field)} to a free one")


def write_ports(settings: Settings, ports: dict[str, int]) -> None:
    if settings.port_file:
        path = Path(settings.port_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        folders.replace_file(path, json.dumps(ports) + "\n")


def _family(settings: Settings) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in settings.bind_address else socket.AF_INET
