"""Several gateway processes behind one pair of ports.

The HTTP socket is opened here and inherited: it outlives any worker, and another one serves the
connections that wait in it. gRPC cannot take over a socket; each worker opens the port with
SO_REUSEPORT, and what is reserved here keeps others out. Its accepting thread empties the queue at
once, whatever Python is doing, so that hardly any connection waits there.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import tempfile
from pathlib import Path

from prometheus_client import multiprocess

from gateway.process.ports import listen, reserve, write_ports
from gateway.settings import Settings
from headrace.http.workers import Workers

log = logging.getLogger("gateway")

_COMMAND = (sys.executable, "-m", "gateway.process.worker")


def run(settings: Settings, count: int) -> None:
    """Serve until SIGTERM or SIGINT. Unavailable when a port is taken, or a worker cannot start."""
    with (
        listen(settings) as listener,
        reserve(settings) as reserved,
        tempfile.TemporaryDirectory(prefix="headrace-metrics-") as folder,
    ):
        ports = {"http": listener.getsockname()[1], "grpc": reserved.getsockname()[1]}
        metrics_folder = folder if settings.metrics else ""
        workers = Workers(
            _COMMAND,
            count=count,
            order=_order(settings, listener.fileno(), ports, metrics_folder),
            descriptors=[listener.fileno()],
            environ=_environ(metrics_folder),
            drain_s=settings.drain_s,
        )
        try:
            with workers:
                try:
                    if workers.wait_until_up():
                        _announce(settings, count, ports)
                    for worker in workers.watch():
                        if metrics_folder:
                            # Its counts stay, its gauges go.
                            multiprocess.mark_process_dead(worker, path=metrics_folder)  # type: ignore[no-untyped-call]
                finally:
                    # While the workers drain, new callers are refused at once.
                    listener.close()
                    reserved.close()
        finally:
            if settings.port_file:
                Path(settings.port_file).unlink(missing_ok=True)


def _order(
    settings: Settings, listener: int, ports: dict[str, int], metrics_folder: str
) -> dict[str, object]:
    """What worker.py reads."""
    own = dataclasses.replace(settings, grpc_port=ports["grpc"], port_file="")
    return {
        "settings": dataclasses.asdict(own),
        "listener": listener,
        "metrics": metrics_folder,
    }


def _environ(metrics_folder: str) -> dict[str, str]:
    environ = dict(os.environ)
    if metrics_folder:
        environ["PROMETHEUS_MULTIPROC_DIR"] = metrics_folder
    return environ


def _announce(settings: Settings, count: int, ports: dict[str, int]) -> None:
    write_ports(settings, ports)
    log.info("open", extra={"address": settings.bind_address, "workers": count, **ports})
