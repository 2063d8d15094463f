"""A worker's side of the link to its parent, whose side is workers.py.

The parent sends one line of JSON, what the worker is to do; the worker answers once it is up, or
with the reason why it cannot be. The link's end, also by the parent's death, is SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class ParentLink:
    """``descriptor`` is the worker's last argument."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self.is_closed = False

    def __enter__(self) -> ParentLink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def order(self) -> dict[str, Any] | None:
        """None when the parent has ended."""
        line = bytearray()
        while not line.endswith(b"\n"):
            part = self._socket.recv(65536)
            if not part:
                return None
            line += part
        order: dict[str, Any] = json.loads(line)
        return order

    def up(self, *, on_close: Callable[[], None]) -> None:
        """Tell the parent. From now on ``on_close`` is called, in this event loop, at its end."""

        def closed() -> None:
            self.is_closed = True
            loop.remove_reader(self._socket)
            on_close()

        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        loop.add_reader(self._socket, closed)
        self._socket.send(b"{}\n")

    def failed(self, error: str) -> None:
        # The parent may have ended, and nobody is there to be told.
        with suppress(OSError):
            self._socket.sendall(json.dumps({"error": error}).encode() + b"\n")
