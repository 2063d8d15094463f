"""The child process of an isolated engine, as its parent sees it: requests are sent, and their
answers are waited for."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

import headrace
from headrace.protocol.errors import DeadlineExceeded, Unavailable
from headrace.server.deadlines import TIMED_OUT
from headrace.server.engines import Arrays, frames
from headrace.server.engines.frames import Frames, Head

ENDED = "The process that runs the models has ended, and is being restarted; try again in a moment"
# The time for a child to end before it is killed.
END_S = 5.0


class _Answer:
    """``is_done`` is set once the answer is there."""

    __slots__ = ("arrays", "head", "is_done")

    def __init__(self) -> None:
        self.is_done = threading.Event()
        self.head: Head = {}
        self.arrays: dict[str, np.ndarray] = {}


class ChildProcess:
    """Starts the process; many threads may send requests."""

    def __init__(self, options: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _start(theirs, options)
            except OSError:
                ours.close()
                raise
        self._socket = ours
        self._frames = Frames(ours)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        # None once the child has ended.
        self._waiting: dict[int, _Answer] | None = {}
        self._is_ending = False
        self._reader = threading.Thread(target=self._read, name="engine-answers", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._waiting is not None

    @property
    def exit_reason(self) -> str:
        code = self._process.returncode
        if code is not None and code < 0:
            return signal.Signals(-code).name
        return f"exit code {code}"

    def request(
        self,
        head: Head,
        arrays: Arrays | None = None,
        *,
        timeout_s: float | None = None,
    ) -> tuple[Head, dict[str, np.ndarray]]:
        """Sends a request and returns its answer, or raises the error that the child answered."""
        answer = _Answer()
        number = next(self._numbers)
        with self._lock:
            if self._waiting is None:
                raise Unavailable(ENDED)
            self._waiting[number] = answer
        try:
            self._frames.send({**head, "id": number}, arrays)
            if not answer.is_done.wait(timeout_s):
                raise DeadlineExceeded(TIMED_OUT)
        except OSError:
            raise Unavailable(ENDED) from None
        finally:
            with self._lock:
                if self._waiting is not None:
                    self._waiting.pop(number, None)
        if "code" in answer.head:
            raise frames.to_error(answer.head)
        return answer.head, answer.arrays

    def wait(self) -> None:
        """Until the child has ended."""
        self._reader.join()
        self._process.wait()
        self._socket.close()

    def end(self) -> None:
        self._is_ending = True
        self._frames.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        """A thread: hands each answer to the caller that waits for it, until the child ends."""
        try:
            while True:
                head, arrays = self._frames.receive()
                answer = None
                with self._lock:
                    if self._waiting is not None:
                        answer = self._waiting.get(head["id"])
                if answer is not None:
                    answer.head = head
                    answer.arrays = arrays
                    answer.is_done.set()
        except EOFError:
            pass
        finally:
            self._answer_all()
            if not self._is_ending and self._process.poll() is None:
                # It closed its end of the connection, or sent something else than a frame.
                self._process.kill()

    def _answer_all(self) -> None:
        with self._lock:
            waiting = self._waiting or {}
            self._waiting = None
        for answer in waiting.values():
            answer.head = frames.from_error(Unavailable(ENDED))
            answer.is_done.set()


def _start(connection: socket.socket, options: str) -> subprocess.Popen[bytes]:
    descriptor = connection.fileno()
    package_folder = str(Path(headrace.__file__).parents[1])
    python_path = os.pathsep.join((package_folder, os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, "-m", "headrace.server.engines.child", str(descriptor), options]
    return subprocess.Popen(
        command,
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": python_path.rstrip(os.pathsep)},
    )
