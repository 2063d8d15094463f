"""``headrace serve``: flags in, a server until SIGTERM or SIGINT, an exit code out."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import headrace
from headrace.http import log as logs
from headrace.protocol.errors import ConfigError, HeadraceError
from headrace.server import flags, textfiles
from headrace.server.config import ServerConfig
from headrace.server.engines import capi

if TYPE_CHECKING:
    from headrace.server.server import Server

log = logging.getLogger(__name__)

# TF Serving's exit code for every start that fails.
_FAILED = 255


def main(argv: Sequence[str]) -> int:
    if "--help" in argv or "-h" in argv:
        print(flags.usage(), end="")
        # TF Serving's too.
        return _FAILED
    try:
        config = flags.parse(argv)
        if config.version:
            print(
                f"TensorFlow ModelServer: headrace {headrace.__version__}\nTensorFlow Library: "
                f"{capi.version()}"
            )
            return 0
        logs.install("text", "info", loggers=("headrace",))
        for flag in flags.without_effect(argv):
            log.warning("flag has no effect here", extra={"flag": flag.name, "meaning": flag.help})
        return _serve(config)
    except flags.FlagError as error:
        print(error, file=sys.stderr)
        print(flags.usage(), end="")
        return _FAILED
    except ConfigError as error:
        # What TF Serving says on stdout, below, knows no place.
        log.error("config is wrong", extra={"reason": textfiles.fault(error)})
        print(
            f"Failed to start server. Error: {error.status_name}: {error.serving_text}", flush=True
        )
        return _FAILED
    except HeadraceError as error:
        print(f"Failed to start server. Error: {error.status_name}: {error.message}", flush=True)
        return _FAILED


def _serve(config: ServerConfig) -> int:
    started = time.monotonic()
    # While TensorFlow's library loads, on another core, this thread imports what the ports need.
    if not config.isolate:
        threading.Thread(target=_preload, daemon=True).start()
    from headrace.server.server import Server

    # A pipe that the interpreter itself writes to, in whichever thread a signal comes: a handler in
    # Python runs in this thread alone, and not while it waits; and waiting for an Event would take
    # a lock that the handler may need.
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    asked: list[int] = []

    def stop(number: int, frame: object) -> None:
        if asked:
            # Asked twice: at once.
            sys.exit(128 + number)
        asked.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with Server(config) as server:
        threading.Thread(target=_announce_ready, args=(server, started), daemon=True).start()
        while not asked:
            os.read(told, 1)
        log.info("stopping; calls under way may end", extra={"drain_seconds": config.drain_seconds})
    log.info("stopped")
    if not server.is_quiet:
        log.warning("calls that did not end in time are cut off")
        logging.shutdown()
        # An interpreter that ends in order would wait for their threads.
        os._exit(0)
    return 0


def _preload() -> None:
    # Said again, and told, when the first model loads.
    with contextlib.suppress(HeadraceError):
        capi.library()


def _announce_ready(server: Server, started: float) -> None:
    if server.wait_until_ready():
        log.info(
            "ready",
            extra={
                "seconds": time.monotonic() - started,
                "grpc": server.grpc_port,
                "rest": server.rest_port,
            },
        )
        if lacking := server.not_served():
            log.warning(
                "ready, but not with every model; why is above",
                extra={"not_served": ",".join(lacking)},
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
