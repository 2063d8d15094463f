"""The embedded server: TensorFlow Serving's wire, flags and lifecycle in one pip-installable
process."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.server.command import main
    from headrace.server.config import AUTO, ServerConfig
    from headrace.server.server import Server

_HOMES = {"AUTO": "config", "Server": "server", "ServerConfig": "config", "main": "command"}
__all__ = ["AUTO", "Server", "ServerConfig", "main"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'headrace.server' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"headrace.server.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
