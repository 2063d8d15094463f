"""Several gateway processes behind one pair of ports: started, watched, replaced when they die,
drained together.

Spawned, not forked: gRPC and its threads do not survive a fork. This process holds the ports and
answers nothing.

The HTTP socket is opened here and inherited, so its queue outlives any worker: who waits in it is
served by the next. gRPC cannot take over a socket; each worker opens the port with SO_REUSEPORT,
and what is reserved here keeps strangers out. Its accepting thread empties the queue at once,
whatever Python is doing, so that hardly anyone waits there.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import multiprocess

from gateway.process.server import listen, taken, write_ports
from gateway.settings import Settings
from headrace.protocol.errors import Unavailable

log = logging.getLogger("gateway")

_SHORT_LIFE_S, _LONGEST_PAUSE_S = 1.0, 5.0
# What is still there then is killed.
_AFTER_DRAIN_S = 5.0
# A signal to the whole group may reach a worker before it reaches us.
_SETTLE_S = 0.1


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    # Closes by itself when either side dies.
    link: socket.socket
    since: float = field(default_factory=time.monotonic)
    up: bool = False
    trouble: str = ""


class Workers:
    """``count`` of them; ``run()`` returns when all are gone after SIGTERM or SIGINT."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._settings = settings
        self._count = count
        self._workers: set[_Worker] = set()
        self._selector = selectors.DefaultSelector()
        self._stopping = self._opened = False
        # When the next ones are to be started, on the monotonic clock.
        self._due: list[float] = []
        self._pause_s = 0.0

    def run(self) -> None:
        """Unavailable when a port is taken, or a worker cannot start."""
        with listen(self._settings) as listener, _reserved(self._settings) as reserved:
            ports = {"http": listener.getsockname()[1], "grpc": reserved.getsockname()[1]}
            with tempfile.TemporaryDirectory(prefix="headrace-metrics-") as folder, self._signals():
                try:
                    self._watch(listener, ports, folder)
                finally:
                    # Who comes from now on is refused at once, not kept waiting.
                    listener.close()
                    reserved.close()
                    self._end()
                    if self._settings.port_file:
                        Path(self._settings.port_file).unlink(missing_ok=True)

    def _watch(self, listener: socket.socket, ports: dict[str, int], folder: str) -> None:
        self._due = [0.0] * self._count
        while not self._stopping:
            now = time.monotonic()
            for at in [at for at in self._due if at <= now]:
                self._due.remove(at)
                self._start(listener, ports, folder)
            if (
                not self._opened
                and len(self._workers) == self._count
                and all(w.up for w in self._workers)
            ):
                self._opened = True
                write_ports(self._settings, ports)
                log.info(
                    "open",
                    extra={"address": self._settings.bind_address, "workers": self._count, **ports},
                )
            for worker in self._heard(max(0.0, min(self._due) - now) if self._due else None):
                self._ended(worker, folder)

    def _start(self, listener: socket.socket, ports: dict[str, int], folder: str) -> None:
        ours, theirs = socket.socketpair()
        environ = {
            **os.environ,
            **({"PROMETHEUS_MULTIPROC_DIR": folder} if self._settings.metrics else {}),
        }
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway.process.worker", str(theirs.fileno())],
                env=environ,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), listener.fileno()),
            )
        settings = dataclasses.replace(self._settings, grpc_port=ports["grpc"], port_file="")
        order = {
            "settings": dataclasses.asdict(settings),
            "listener": listener.fileno(),
            "metrics": folder if self._settings.metrics else "",
            "was_ready": self._opened,
        }
        worker = _Worker(process, ours)
        self._workers.add(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        # It is dead already; its end of the link says so.
        with suppress(OSError):
            ours.sendall(json.dumps(order).encode() + b"\n")

    def _heard(self, timeout_s: float | None) -> Iterator[_Worker]:
        """Waits until something happens; the workers that ended."""
        for key, _ in self._selector.select(timeout_s):
            worker = key.data
            if worker is None:
                key.fileobj.recv(64)  # type: ignore[union-attr]  # a signal; its handler has run
                continue
            try:
                said = worker.link.recv(65536)
            except OSError:
                said = b""
            if said:
                worker.trouble = json.loads(said).get("trouble", "")
                worker.up = not worker.trouble
                if worker.up:
                    log.info("worker is up", extra={"worker": worker.process.pid})
            else:
                self._selector.unregister(worker.link)
                worker.link.close()
                self._workers.discard(worker)
                with suppress(subprocess.TimeoutExpired):
                    worker.process.wait(1)
                if worker.process.poll() is None:
                    # It let go of the link and lives on: it is of no use.
                    worker.process.kill()
                    worker.process.wait()
                yield worker

    def _ended(self, worker: _Worker, folder: str) -> None:
        if self._settings.metrics:
            # Its counts stay, its gauges go.
            multiprocess.mark_process_dead(worker.process.pid, path=folder)  # type: ignore[no-untyped-call]
        if not self._stopping:
            time.sleep(_SETTLE_S)
        if self._stopping:
            return
        if not self._opened:
            code = worker.process.returncode
            raise Unavailable(
                worker.trouble or f"a worker ended with {code} before it was up; its log says why"
            )
        lived_s = time.monotonic() - worker.since
        self._pause_s = (
            min(max(self._pause_s * 2, 0.1), _LONGEST_PAUSE_S) if lived_s < _SHORT_LIFE_S else 0.0
        )
        self._due.append(time.monotonic() + self._pause_s)
        told = {
            "worker": worker.process.pid,
            "code": worker.process.returncode,
            "again_in_s": self._pause_s,
        }
        log.warning("worker ended", extra=told)

    def _end(self) -> None:
        self._stopping = True
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + self._settings.drain_s + _AFTER_DRAIN_S
        while self._workers and (left := deadline - time.monotonic()) > 0:
            for _ in self._heard(left):
                pass
        for worker in self._workers:
            log.warning(
                "worker killed, it did not drain in time", extra={"worker": worker.process.pid}
            )
            worker.process.kill()
            worker.process.wait()
            worker.link.close()
        self._selector.close()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            self._selector.register(ours, selectors.EVENT_READ, None)
            wakeup = signal.set_wakeup_fd(theirs.fileno())
            before = {
                number: signal.signal(number, self._stop)
                for number in (signal.SIGTERM, signal.SIGINT)
            }
            try:
                yield
            finally:
                signal.set_wakeup_fd(wakeup)
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _stop(self, *_: Any) -> None:
        self._stopping = True


@contextmanager
def _reserved(s: Settings) -> Iterator[socket.socket]:
    """The gRPC port, bound but not listening: no other gateway gets it, and the workers may share
    it."""
    family = socket.AF_INET6 if ":" in s.bind_address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            # Without SO_REUSEPORT: fails where anybody else has the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((s.bind_address, s.grpc_port))
        with socket.socket(family) as reserved:
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reserved.bind((s.bind_address, s.grpc_port))
            yield reserved
    except OSError as e:
        raise taken(s, "grpc_port", e.strerror or str(e)) from e
