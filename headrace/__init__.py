"""Headrace: serve TensorFlow models, and talk to those who do. Public names are resolved when first
used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from headrace.client import AsyncClient, Client
    from headrace.protocol.errors import HeadraceError
    from headrace.server import Server

_HOMES = {
    "AsyncClient": "headrace.client",
    "Client": "headrace.client",
    "HeadraceError": "headrace.protocol.errors",
    "Server": "headrace.server",
}
__all__ = ["AsyncClient", "Client", "HeadraceError", "Server", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
