"""One parent, several worker processes: started, watched, replaced when they end, drained together.

The parent holds what they share, such as the ports, and answers nothing. Workers are spawned, not
forked: gRPC and its threads do not survive a fork. worker.py is a worker's side of it.
"""

from __future__ import annotations

import json
import logging
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from headrace.protocol.errors import Unavailable

log = logging.getLogger(__name__)

# A worker that ends sooner is replaced only after a pause, which doubles each time.
_SHORT_LIFE_S = 1.0
_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 5.0
# A worker that is still there so long after its drain is killed.
_AFTER_DRAIN_S = 5.0
# A signal to the whole group may reach a worker before it reaches the parent.
_SETTLE_S = 0.1


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    # Closes by itself when either side dies.
    link: socket.socket
    started: float = field(default_factory=time.monotonic)
    is_up: bool = False
    error: str | None = None


class Workers:
    """``count`` processes of ``command``, which gets its end of the link as its last argument.

    Each inherits ``descriptors`` and receives ``order``, with is_replacement added. Used as a
    context manager: leaving it drains the workers. SIGTERM and SIGINT end both waiting methods.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        count: int,
        order: Mapping[str, Any],
        descriptors: Sequence[int],
        environ: Mapping[str, str],
        drain_s: float,
    ) -> None:
        self._command = command
        self._count = count
        self._order = order
        self._descriptors = descriptors
        self._environ = environ
        self._drain_s = drain_s
        self._workers: set[_Worker] = set()
        self._selector = selectors.DefaultSelector()
        self._signals = ExitStack()
        self._is_stopping = False
        self._were_up = False
        # When the next workers are to be started, on the monotonic clock.
        self._starts: list[float] = []
        self._pause_s = 0.0

    def __enter__(self) -> Workers:
        self._signals.enter_context(self._handled_signals())
        return self

    def __exit__(self, *_: object) -> None:
        with self._signals:
            self._drain()
        self._selector.close()

    def wait_until_up(self) -> bool:
        """Start all. False when a signal came first; Unavailable when a worker cannot start."""
        for _ in range(self._count):
            self._start()
        while not self._is_stopping and not all(worker.is_up for worker in self._workers):
            for worker in self._wait(None):
                self._settle()
                if not self._is_stopping:
                    raise Unavailable(_why_not_up(worker))
        self._were_up = not self._is_stopping
        return self._were_up

    def watch(self) -> Iterator[int]:
        """Replace workers that end, until a signal comes; yields their process ids."""
        while not self._is_stopping:
            for worker in self._wait(self._start_due()):
                yield worker.process.pid
                self._settle()
                if not self._is_stopping:
                    self._plan_replacement(worker)

    def _start_due(self) -> float | None:
        """Seconds until the next start; None when there is none to come."""
        now = time.monotonic()
        later = []
        for at in self._starts:
            if at <= now:
                self._start()
            else:
                later.append(at)
        self._starts = later
        if not later:
            return None
        return max(0.0, min(later) - now)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [*self._command, str(theirs.fileno())],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *self._descriptors),
            )
        worker = _Worker(process, ours)
        self._workers.add(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        order = {**self._order, "is_replacement": self._were_up}
        # An error means that it is dead already, which its end of the link will tell.
        with suppress(OSError):
            ours.sendall(json.dumps(order).encode() + b"\n")

    def _wait(self, timeout_s: float | None) -> Iterator[_Worker]:
        """Wait until anything happens; yields the workers that ended."""
        for key, _ in self._selector.select(timeout_s):
            worker = key.data
            if worker is None:
                # A signal, whose handler has run.
                key.fileobj.recv(64)  # type: ignore[union-attr]
            elif not self._read(worker):
                self._remove(worker)
                yield worker

    def _read(self, worker: _Worker) -> bool:
        """What the worker reports; False when its end of the link is closed."""
        try:
            message = worker.link.recv(65536)
        except OSError:
            return False
        if not message:
            return False
        worker.error = json.loads(message).get("error")
        worker.is_up = worker.error is None
        if worker.is_up:
            log.info("worker is up", extra={"worker": worker.process.pid})
        return True

    def _remove(self, worker: _Worker) -> None:
        self._selector.unregister(worker.link)
        worker.link.close()
        self._workers.discard(worker)
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(1)
        if worker.process.poll() is None:
            # It closed its end of the link and lives on: it is of no use.
            worker.process.kill()
            worker.process.wait()

    def _settle(self) -> None:
        if not self._is_stopping:
            time.sleep(_SETTLE_S)

    def _plan_replacement(self, worker: _Worker) -> None:
        now = time.monotonic()
        if now - worker.started < _SHORT_LIFE_S:
            self._pause_s = min(max(self._pause_s * 2, _FIRST_PAUSE_S), _MAX_PAUSE_S)
        else:
            self._pause_s = 0.0
        self._starts.append(now + self._pause_s)
        fields = {
            "worker": worker.process.pid,
            "code": worker.process.returncode,
            "again_in_s": self._pause_s,
        }
        log.warning("worker ended", extra=fields)

    def _drain(self) -> None:
        self._is_stopping = True
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + self._drain_s + _AFTER_DRAIN_S
        while self._workers:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            for _ in self._wait(left_s):
                pass
        for worker in self._workers:
            fields = {"worker": worker.process.pid}
            log.warning("worker killed, it did not drain in time", extra=fields)
            worker.process.kill()
            worker.process.wait()
            worker.link.close()

    @contextmanager
    def _handled_signals(self) -> Iterator[None]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            self._selector.register(ours, selectors.EVENT_READ, None)
            wakeup = signal.set_wakeup_fd(theirs.fileno())
            terminated = signal.signal(signal.SIGTERM, self._on_signal)
            interrupted = signal.signal(signal.SIGINT, self._on_signal)
            try:
                yield
            finally:
                signal.set_wakeup_fd(wakeup)
                signal.signal(signal.SIGTERM, terminated)
                signal.signal(signal.SIGINT, interrupted)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._is_stopping = True


def _why_not_up(worker: _Worker) -> str:
    if worker.error is not None:
        return worker.error
    code = worker.process.returncode
    return f"a worker ended with {code} before it was up; its log says why"
