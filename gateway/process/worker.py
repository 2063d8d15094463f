"""One gateway process of several: `python -m gateway.process.worker DESCRIPTOR`, which workers.py
starts."""

from __future__ import annotations

import shutil
import socket
import sys
from typing import Any

from gateway.app import create_app
from gateway.core import Core
from gateway.metrics import Metrics
from gateway.process.server import Server
from gateway.settings import Settings
from headrace.http import log
from headrace.http.worker import ParentLink
from headrace.protocol.errors import Unavailable


def main(argv: list[str]) -> int:
    with ParentLink(int(argv[1])) as parent:
        order = parent.order()
        if order is None:
            return 1
        try:
            _serve(order, parent)
        except Unavailable as error:
            parent.failed(error.message)
            return 2
        finally:
            # Without a parent, nobody else clears it away.
            if parent.is_closed and order["metrics"]:
                shutil.rmtree(order["metrics"], ignore_errors=True)
        return 0


def _serve(order: dict[str, Any], parent: ParentLink) -> None:
    settings = _settings(order["settings"])
    log.install("json", settings.log_level, loggers=("gateway", "headrace"))
    metrics = Metrics(enabled=settings.metrics, folder=order["metrics"])
    core = Core(settings, metrics=metrics, was_ready=order["is_replacement"])

    def opened(_: dict[str, int]) -> None:
        parent.up(on_close=server.stop)

    listener = socket.socket(fileno=order["listener"])
    app = create_app(settings, core=core)
    server = Server(settings, app=app, listener=listener, opened=opened)
    server.run()


def _settings(values: dict[str, Any]) -> Settings:
    """JSON has lists where the settings have tuples."""
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    return Settings(**values)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
