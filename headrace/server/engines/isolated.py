"""An engine in a child process, so that a model that ends its process does not end the server.

When the child dies, its callers get an error, and a new child is started and loads the models
again.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from headrace.protocol import messages, signatures
from headrace.protocol.errors import HeadraceError, Unavailable
from headrace.protocol.signatures import Signature
from headrace.server.config import CPUS
from headrace.server.engines import Arrays, LoadedModel
from headrace.server.engines.child_process import END_S, ENDED, ChildProcess
from headrace.server.engines.frames import Head
from headrace.server.engines.tensorflow import TensorFlowEngine

log = logging.getLogger(__name__)

# A load is tried again when the child dies meanwhile, which may be another version's fault.
_LOAD_ATTEMPTS = 3
_RESTART_INTERVAL_S = 1.0


class IsolatedEngine:
    """A context manager; the child starts with the first load and ends with the block."""

    def __init__(self, engine: TensorFlowEngine) -> None:
        options = {**asdict(engine.options), "base": engine.options.base.hex()}
        self._options = json.dumps({"tags": engine.tags, "options": options})
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._models: dict[int, IsolatedModel] = {}
        self._child: ChildProcess | None = None
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
            self._keeper.join(END_S)

    @property
    def pid(self) -> int:
        """The child's; 0 while there is none."""
        child = self._child
        return child.pid if child is not None else 0

    def load(self, folder: Path) -> IsolatedModel:
        self._start()
        for attempt in range(1, _LOAD_ATTEMPTS + 1):
            child = self._wait_for_child()
            number = next(self._numbers)
            try:
                head, _ = child.request({"do": "load", "model": number, "folder": str(folder)})
            except Unavailable:
                if child.is_alive or attempt == _LOAD_ATTEMPTS:
                    raise
                continue
            model = IsolatedModel(self, number, folder, child, head)
            with self._changed:
                self._models[number] = model
                current = self._child
            if current is not None and current is not child:
                # The child has died since, and the new one did not know of this model.
                model.load_again(current)
            return model
        raise AssertionError

    def forget(self, model: IsolatedModel) -> None:
        with self._changed:
            self._models.pop(model.number, None)

    def _start(self) -> None:
        with self._changed:
            if self._child is None and not self._keeper.is_alive() and not self._closed:
                self._child = ChildProcess(self._options)
                self._keeper.start()

    def _wait_for_child(self) -> ChildProcess:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._child is not None)
            if self._closed or self._child is None:
                raise Unavailable("The server is stopping")
            return self._child

    def _keep(self) -> None:
        """A thread: waits for the child's end and starts the next one."""
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
                extra={"how": child.exit_reason},
            )
            child = self._restart()
            if child is None:
                return
            with self._changed:
                if self._closed:
                    child.end()
                    return
                self._child = child
                models = list(self._models.values())
                self._changed.notify_all()
            _load_all(models, child)
            log.info(
                "the process that runs the models is back",
                extra={"seconds": time.monotonic() - started},
            )

    def _restart(self) -> ChildProcess | None:
        """Tries until the system has room for a process; None when the engine is closed."""
        while True:
            try:
                return ChildProcess(self._options)
            except OSError as error:
                log.error(
                    "the process that runs the models cannot be started; trying again",
                    extra={"reason": str(error)},
                )
            with self._changed:
                if self._changed.wait_for(lambda: self._closed, _RESTART_INTERVAL_S):
                    return None


def _load_all(models: Sequence[IsolatedModel], child: ChildProcess) -> None:
    with ThreadPoolExecutor(max(2, CPUS)) as pool:
        list(pool.map(lambda model: model.load_again(child), models))


@dataclass(frozen=True, slots=True)
class AutoIsolatingEngine:
    """Loads a version into this process if no request can end it, else into the isolated engine."""

    engine: TensorFlowEngine
    isolated: IsolatedEngine

    def load(self, folder: Path) -> LoadedModel:
        model = self.engine.load(folder)
        if not model.traits.shapes_may_hide:
            return model
        model.close()
        log.warning(
            "runs in a process of its own: it has operations that end one when they meet an "
            "unexpected rank, and its signatures do not say which ranks it takes",
            extra={"version": str(folder)},
        )
        return self.isolated.load(folder)


class IsolatedModel:
    """One version, in the current child."""

    def __init__(
        self, engine: IsolatedEngine, number: int, folder: Path, child: ChildProcess, loaded: Head
    ) -> None:
        self.number = number
        self._engine = engine
        self._folder = folder
        self._child: ChildProcess | None = child
        self._load_error: str | None = None
        self._lock = threading.Lock()
        self._is_closed = False
        self.signature_defs: Mapping[str, Any] = {
            name: messages.parse(messages.SignatureDef, bytes.fromhex(data))
            for name, data in loaded["signature_defs"].items()
        }
        self.signatures: Mapping[str, Signature] = signatures.from_signature_defs(
            self.signature_defs
        )
        self.not_row_wise: Mapping[str, str | None] = loaded["not_row_wise"]

    def run(
        self,
        signature: Signature,
        inputs: Arrays,
        outputs: Sequence[str],
        *,
        timeout_s: float | None = None,
    ) -> Arrays:
        child = self._child
        if child is None or not child.is_alive:
            raise Unavailable(self._load_error or ENDED)
        head = {
            "do": "run",
            "model": self.number,
            "signature": signature.name,
            "inputs_of": {alias: signature.inputs[alias].tensor_name for alias in inputs},
            "outputs": list(outputs),
            "outputs_of": {alias: signature.outputs[alias].tensor_name for alias in outputs},
            "timeout_s": timeout_s,
        }
        _, arrays = child.request(head, inputs, timeout_s=timeout_s)
        return {alias: arrays[alias] for alias in outputs}

    def expected_s(self, signature: Signature, requests: Iterable[Arrays]) -> float:
        """Unknown, as another process runs it."""
        return math.inf

    def load_again(self, child: ChildProcess) -> None:
        self._child = None
        self._load_error = None
        try:
            child.request({"do": "load", "model": self.number, "folder": str(self._folder)})
        except HeadraceError as error:
            self._load_error = (
                f"This version could not be loaded again after a restart: {error.message}"
            )
            fields = {"version": str(self._folder), "reason": error.message}
            log.error("version not loaded again", extra=fields)
            return
        with self._lock:
            is_closed = self._is_closed
            self._child = child
        if is_closed:
            # It was closed meanwhile, when this child did not have it yet.
            self._unload(child)

    def close(self) -> None:
        self._engine.forget(self)
        with self._lock:
            self._is_closed = True
            child = self._child
        if child is not None and child.is_alive:
            self._unload(child)

    def _unload(self, child: ChildProcess) -> None:
        # A child that has died has no model left to unload.
        with suppress(Unavailable):
            child.request({"do": "close", "model": self.number})
