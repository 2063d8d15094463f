"""One gateway process of several: `python -m gateway.process.worker FD`; workers.py starts it, and
holds the other end.

What it is to do comes as a line of JSON through that link; the link's end, also by the other side's
death, is SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sys
from contextlib import suppress
from typing import Any

from gateway.app import create_app
from gateway.core import Core
from gateway.metrics import Metrics
from gateway.process.server import Server
from gateway.settings import Settings
from headrace.http import log
from headrace.protocol.errors import Unavailable


def main(argv: list[str]) -> int:
    with socket.socket(fileno=int(argv[1])) as link:
        order = _order(link)
        if order is None:
            return 1
        given: dict[str, Any] = order["settings"]
        given.update((k, tuple(v)) for k, v in order["settings"].items() if isinstance(v, list))
        settings = Settings(**given)
        log.install("json", settings.log_level, loggers=("gateway", "headrace"))
        metrics = Metrics(enabled=settings.metrics, folder=order["metrics"])
        core = Core(settings, metrics=metrics, was_ready=order["was_ready"])

        orphaned: list[bool] = []

        def opened(_: dict[str, int]) -> None:
            link.setblocking(False)
            asyncio.get_running_loop().add_reader(link, left)
            link.send(b"{}\n")

        def left() -> None:
            orphaned.append(True)
            asyncio.get_running_loop().remove_reader(link)
            server.stop()

        listener = socket.socket(fileno=order["listener"])
        server = Server(
            settings, app=create_app(settings, core=core), listener=listener, opened=opened
        )
        try:
            server.run()
        except Unavailable as e:
            # Nobody there to be told.
            with suppress(OSError):
                link.sendall(json.dumps({"trouble": e.message}).encode() + b"\n")
            return 2
        finally:
            # Nobody else is left to clear it away.
            if orphaned and order["metrics"]:
                shutil.rmtree(order["metrics"], ignore_errors=True)
        return 0


def _order(link: socket.socket) -> dict[str, Any] | None:
    line = bytearray()
    while not line.endswith(b"\n"):
        part = link.recv(65536)
        if not part:
            return None
        line += part
    told: dict[str, Any] = json.loads(line)
    return told


if __name__ == "__main__":
    sys.exit(main(sys.argv))
