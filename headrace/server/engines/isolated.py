"""An engine in a child process, so that a model that ends its process does not end the server.

The child loads and runs; here its answers are waited for. When it dies, whoever waits is told so,
and another one is started and given the models that were loaded.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

import headrace
from headrace.protocol import messages, signatures
from headrace.protocol.errors import DeadlineExceeded, HeadraceError, Unavailable
from headrace.protocol.signatures import Signature
from headrace.server.config import CPUS
from headrace.server.engines import LoadedModel, frames
from headrace.server.engines.frames import Frames, Head
from headrace.server.engines.tensorflow import TensorFlowEngine

log = logging.getLogger(__name__)

# To load a version, where the process died meanwhile: perhaps of another one.
_ATTEMPTS = 3
# Until a process that could not be started is tried again.
_AGAIN_S = 1.0
_END_S = 5.0
_GONE = "The process that runs the models has ended, and is being restarted; try again in a moment"
_TIMED_OUT = "Timed out waiting for notification"


class IsolatedEngine:
    """A context manager: a child, from the first load on, lives as long as the block."""

    def __init__(self, engine: TensorFlowEngine) -> None:
        options = {**asdict(engine.options), "base": engine.options.base.hex()}
        self._options = json.dumps({"tags": engine.tags, "options": options})
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._models: dict[int, IsolatedModel] = {}
        self._child: _Child | None = None
        self._closed = False
        self._keeper = threading.Thread(target=self._keep, name="engine-keeper", daemon=True)

    def __enter__(self) -> IsolatedEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closed = True
            child = self._child
            self._changed.notify_all()
        if child is not None:
            child.end()
        if self._keeper.is_alive():
            self._keeper.join(_END_S)

    @property
    def pid(self) -> int:
        """Of the child; 0 while there is none."""
        child = self._child
        return child.pid if child is not None else 0

    def load(self, folder: Path) -> IsolatedModel:
        self._start()
        for attempt in range(1, _ATTEMPTS + 1):
            child = self._wait_for_child()
            number = next(self._numbers)
            try:
                head, _ = child.ask({"do": "load", "model": number, "folder": str(folder)})
            except Unavailable:
                if child.is_alive or attempt == _ATTEMPTS:
                    raise
                continue
            model = IsolatedModel(self, number, folder, child, head)
            with self._changed:
                self._models[number] = model
                now = self._child
            if now is not None and now is not child:
                # It has died since, and the next knew nothing of this one.
                model.load_again(now)
            return model
        raise AssertionError

    def forget(self, model: IsolatedModel) -> None:
        with self._changed:
            self._models.pop(model.number, None)

    def _start(self) -> None:
        with self._changed:
            if self._child is None and not self._keeper.is_alive() and not self._closed:
                self._child = _Child(self._options)
                self._keeper.start()

    def _wait_for_child(self) -> _Child:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._child is not None)
            if self._closed or self._child is None:
                raise Unavailable("The server is stopping")
            return self._child

    def _keep(self) -> None:
        """Waits for the child's end and starts the next."""
        with self._changed:
            child = self._child
        while child is not None:
            child.wait()
            with self._changed:
                self._child = None
                if self._closed:
                    return
            started = time.monotonic()
            log.error(
                "the process that runs the models has ended; it is restarted",
                extra={"how": child.ending},
            )
            child = self._fresh()
            if child is None:
                return
            with self._changed:
                if self._closed:
                    child.end()
                    return
                self._child = child
                models = list(self._models.values())
                self._changed.notify_all()
            with ThreadPoolExecutor(max(2, CPUS)) as pool:
                list(pool.map(lambda model, child=child: model.load_again(child), models))
            log.info(
                "the process that runs the models is back",
                extra={"seconds": time.monotonic() - started},
            )

    def _fresh(self) -> _Child | None:
        """Tried until the system has room for one; None where nobody wants it any more."""
        while True:
            try:
                return _Child(self._options)
            except OSError as error:
                log.error("it cannot be started", extra={"reason": str(error)})
            with self._changed:
                if self._changed.wait_for(lambda: self._closed, _AGAIN_S):
                    return None


@dataclass(frozen=True, slots=True)
class AutoIsolatingEngine:
    """Loads into this process what is known not to end it, whatever it is sent; the rest by the
    isolated engine."""

    engine: TensorFlowEngine
    isolated: IsolatedEngine

    def load(self, folder: Path) -> LoadedModel:
        model = self.engine.load(folder)
        if not model.traits.shapes_may_hide:
            return model
        model.close()
        log.warning(
            "runs in a process of its own: it has operations that end one when they meet an "
            "unexpected rank, and its "
            "signatures do not say which ranks it takes",
            extra={"version": str(folder)},
        )
        return self.isolated.load(folder)


class IsolatedModel:
    """One version, in whichever child there is."""

    def __init__(
        self, engine: IsolatedEngine, number: int, folder: Path, child: _Child, loaded: Head
    ) -> None:
        self.number = number
        self._engine = engine
        self._folder = folder
        self._child: _Child | None = child
        self._trouble = ""
        self._lock = threading.Lock()
        self._is_closed = False
        self.signature_defs: Mapping[str, Any] = {
            name: messages.parse(messages.SignatureDef, bytes.fromhex(data))
            for name, data in loaded["signature_defs"].items()
        }
        self.signatures: Mapping[str, Signature] = {
            name: signatures.from_signature_def(name, definition)
            for name, definition in self.signature_defs.items()
        }
        self.not_row_wise: Mapping[str, str | None] = loaded["not_row_wise"]

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        *,
        timeout_s: float | None = None,
    ) -> dict[str, np.ndarray]:
        child = self._child
        if child is None or not child.is_alive:
            raise Unavailable(self._trouble or _GONE)
        head = {
            "do": "run",
            "model": self.number,
            "signature": signature.name,
            "inputs_of": {alias: signature.inputs[alias].tensor_name for alias in inputs},
            "outputs": list(outputs),
            "outputs_of": {alias: signature.outputs[alias].tensor_name for alias in outputs},
            "timeout_s": timeout_s,
        }
        _, found = child.ask(head, inputs, timeout_s=timeout_s)
        return {alias: found[alias] for alias in outputs}

    def expected_s(
        self, signature: Signature, requests: Iterable[Mapping[str, np.ndarray]]
    ) -> float:
        # Another process is waited for.
        return math.inf

    def load_again(self, child: _Child) -> None:
        self._child, self._trouble = None, ""
        try:
            child.ask({"do": "load", "model": self.number, "folder": str(self._folder)})
        except HeadraceError as error:
            self._trouble = (
                f"This version could not be loaded again after a restart: {error.message}"
            )
            log.error(
                "version not loaded again",
                extra={"version": str(self._folder), "reason": error.message},
            )
            return
        with self._lock:
            is_closed, self._child = self._is_closed, child
        # Meanwhile: nobody else will take it out of this child.
        if is_closed:
            self._leave(child)

    def close(self) -> None:
        self._engine.forget(self)
        with self._lock:
            self._is_closed, child = True, self._child
        if child is not None and child.is_alive:
            self._leave(child)

    def _leave(self, child: _Child) -> None:
        # It has died, and the model with it.
        with suppress(Unavailable):
            child.ask({"do": "close", "model": self.number})


class _Answer:
    __slots__ = ("done", "found", "head")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.head: Head = {}
        self.found: dict[str, np.ndarray] = {}


class _Child:
    """One process, and those who wait for its answers."""

    def __init__(self, options: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            search = os.pathsep.join(
                (str(Path(headrace.__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
            )
            try:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "headrace.server.engines.child",
                        str(theirs.fileno()),
                        options,
                    ],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": search.rstrip(os.pathsep)},
                )
            except OSError:
                ours.close()
                raise
        self._socket = ours
        self._frames = Frames(ours)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Answer] | None = {}
        # To end.
        self._is_told = False
        self._reader = threading.Thread(target=self._read, name="engine-answers", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._waiting is not None

    @property
    def ending(self) -> str:
        code = self._process.returncode
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"

    def ask(
        self,
        head: Head,
        arrays: Mapping[str, np.ndarray] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> tuple[Head, dict[str, np.ndarray]]:
        answer, number = _Answer(), next(self._numbers)
        with self._lock:
            if self._waiting is None:
                raise Unavailable(_GONE)
            self._waiting[number] = answer
        try:
            self._frames.send({**head, "id": number}, arrays)
            if not answer.done.wait(timeout_s):
                raise DeadlineExceeded(_TIMED_OUT)
        except OSError:
            raise Unavailable(_GONE) from None
        finally:
            with self._lock:
                if self._waiting is not None:
                    self._waiting.pop(number, None)
        if "code" in answer.head:
            raise frames.to_error(answer.head)
        return answer.head, answer.found

    def wait(self) -> None:
        """Until it has ended."""
        self._reader.join()
        self._process.wait()
        self._socket.close()

    def end(self) -> None:
        self._is_told = True
        self._frames.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        try:
            while True:
                head, found = self._frames.receive()
                with self._lock:
                    answer = self._waiting.get(head["id"]) if self._waiting is not None else None
                if answer is not None:
                    answer.head, answer.found = head, found
                    answer.done.set()
        except EOFError:
            pass
        finally:
            with self._lock:
                waiting, self._waiting = self._waiting or {}, None
            for answer in waiting.values():
                answer.head = frames.of_error(Unavailable(_GONE))
                answer.done.set()
            if not self._is_told and self._process.poll() is None:
                # It closed its end, or said what is no frame.
                self._process.kill()
