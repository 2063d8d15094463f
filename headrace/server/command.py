"""``headrace serve``: flags in, a server until SIGTERM or SIGINT, an exit code out."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
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
        # TF Serving fails here, too.
        return _FAILED
    try:
        config = flags.parse(argv)
        if config.version:
            library_version = capi.version()
            print(f"TensorFlow ModelServer: headrace {headrace.__version__}")
            print(f"TensorFlow Library: {library_version}")
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
        # TF Serving's text, which goes to stdout below, does not say where in the file.
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
    # TensorFlow's library loads on another core while this thread imports what the ports need.
    if not config.isolate:
        threading.Thread(target=_preload, daemon=True).start()
    from headrace.server.server import Server

    wait_for_signal = _signal_waiter()
    with Server(config) as server:
        threading.Thread(target=_announce_ready, args=(server, started), daemon=True).start()
        wait_for_signal()
        log.info("stopping; calls under way may end", extra={"drain_seconds": config.drain_seconds})
    log.info("stopped")
    if not server.is_quiet:
        log.warning("calls that did not end in time are cut off")
        logging.shutdown()
        # Without this the interpreter would wait for the threads of these calls.
        os._exit(0)
    return 0


def _signal_waiter() -> Callable[[], None]:
    """A function that waits for SIGTERM or SIGINT. A second signal ends the process at once.

    It reads from a pipe that the interpreter itself writes to: a signal may come in any thread, a
    handler in Python runs only in the main thread and not while that waits, and an Event would take
    a lock that the handler may need.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if received:
            sys.exit(128 + number)
        received.append(number)

    def wait() -> None:
        while not received:
            os.read(reader, 1)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return wait


def _preload() -> None:
    # A failure is reported when the first model loads.
    with contextlib.suppress(HeadraceError):
        capi.library()


def _announce_ready(server: Server, started: float) -> None:
    if not server.wait_until_ready():
        return
    fields = {
        "seconds": time.monotonic() - started,
        "grpc": server.grpc_port,
        "rest": server.rest_port,
    }
    log.info("ready", extra=fields)
    not_served = server.not_served()
    if not_served:
        log.warning(
            "ready, but not with every model; why is above",
            extra={"not_served": ",".join(not_served)},
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
