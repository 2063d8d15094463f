"""TensorFlow Serving's own batching: requests wait for one another, up to a size or a time, and run
as one batch.

A model loaded through BatchingEngine has a queue for each signature; threads shared by all models
run what is due. Asked for by the operator, who knows that the model treats rows one by one. Whoever
runs a model need not know of it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headrace.protocol import messages
from headrace.protocol.errors import (
    DeadlineExceeded,
    HeadraceError,
    Internal,
    InvalidArgument,
    Unavailable,
)
from headrace.protocol.signatures import Signature
from headrace.server import textfiles
from headrace.server.batching import batches
from headrace.server.batching.batches import Task
from headrace.server.config import CPUS
from headrace.server.engines import Engine, LoadedModel
from headrace.server.metrics import Metrics

PARAMETERS_FILE = "batching_params.pbtxt"
_MAX_BATCH_SIZE = 1000
_MAX_ENQUEUED = 10
_THREAD_POOL = "model_server_batch_threads"
_TIMED_OUT = "Timed out waiting for notification"


@dataclass(frozen=True, slots=True)
class Parameters:
    """BatchingParameters, with the defaults of TensorFlow's scheduler."""

    max_batch_size: int = _MAX_BATCH_SIZE
    timeout_s: float = 0.0
    max_enqueued: int = _MAX_ENQUEUED
    threads: int = CPUS
    allowed_sizes: tuple[int, ...] = ()
    pads: bool = False
    splits: bool = False
    max_execution_size: int = _MAX_BATCH_SIZE
    # A name for the metrics.
    thread_pool: str = _THREAD_POOL

    @classmethod
    def load(cls, path: str) -> Parameters:
        message = textfiles.load(messages.BatchingParameters, path)
        most = _value(message, "max_batch_size", _MAX_BATCH_SIZE, least=1)
        splits = message.enable_large_batch_splitting.value
        execution = _value(message, "max_execution_batch_size", most, least=1) if splits else most
        sizes = tuple(message.allowed_batch_sizes)
        if sizes and sizes[-1] != execution:
            named = "max_execution_batch_size" if splits else "max_batch_size"
            raise InvalidArgument(
                f"Last entry in allowed_batch_sizes must match {named}; last entry was "
                f"{sizes[-1]}; "
                f"expected {execution}"
            )
        if sorted(set(sizes)) != list(sizes) or (sizes and sizes[0] < 1):
            raise InvalidArgument(
                "allowed_batch_sizes entries must be positive and monotonically increasing"
            )
        return cls(
            max_batch_size=most,
            timeout_s=_value(message, "batch_timeout_micros", 0, least=0) / 1e6,
            max_enqueued=_value(message, "max_enqueued_batches", _MAX_ENQUEUED, least=0),
            threads=_value(message, "num_batch_threads", CPUS, least=1),
            allowed_sizes=sizes,
            pads=message.pad_variable_length_inputs,
            splits=splits,
            max_execution_size=execution,
            thread_pool=message.thread_pool_name.value or _THREAD_POOL,
        )


@dataclass(frozen=True, slots=True)
class BatchingEngine:
    """Loads as ``engine`` does; ``parameters`` of None are looked for in the version's own
    folder."""

    engine: Engine
    scheduler: Scheduler
    parameters: Parameters | None = None

    def load(self, folder: Path) -> LoadedModel:
        parameters = self.parameters
        if parameters is None:
            own = folder / PARAMETERS_FILE
            parameters = Parameters.load(str(own)) if own.is_file() else None
        model = self.engine.load(folder)
        return model if parameters is None else BatchedModel(model, self.scheduler, parameters)


class BatchedModel:
    def __init__(self, model: LoadedModel, scheduler: Scheduler, parameters: Parameters) -> None:
        self._model = model
        self._scheduler = scheduler
        self._parameters = parameters
        self.signatures: Mapping[str, Signature] = model.signatures
        self.signature_defs: Mapping[str, Any] = model.signature_defs
        self.not_row_wise = model.not_row_wise
        # In pairs: for requests of the signature's shapes, and for others, whose faults are nobody
        # else's.
        self._queues = {
            name: (Queue(model, signature, parameters), Queue(model, signature, parameters))
            for name, signature in model.signatures.items()
        }
        scheduler.add(queue for pair in self._queues.values() for queue in pair)

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        *,
        timeout_s: float | None = None,
    ) -> dict[str, np.ndarray]:
        """As part of a batch; alone where it asks for other outputs than the signature's, or brings
        another type."""
        if self.signatures.get(signature.name) is not signature or set(outputs) != set(
            signature.outputs
        ):
            return self._model.run(signature, inputs, outputs, timeout_s=timeout_s)
        rows = batches.rows(inputs)
        if rows == 0 or not batches.has_dtypes(signature, inputs):
            return self._model.run(signature, inputs, outputs, timeout_s=timeout_s)
        queue = self._queues[signature.name][0 if batches.has_shapes(signature, inputs) else 1]
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        tasks = self._scheduler.submit(queue, inputs, rows, deadline)
        for task in tasks:
            if not task.done.wait(
                None if deadline is None else max(0.0, deadline - time.monotonic())
            ):
                raise DeadlineExceeded(_TIMED_OUT)
            if task.error is not None:
                raise task.error
        found = [task.outputs for task in tasks]
        if len(found) == 1:
            return found[0]
        return {alias: np.concatenate([part[alias] for part in found]) for alias in outputs}

    def expected_s(self, signature: Signature, size: int) -> float:
        # It waits for others.
        return math.inf

    def close(self) -> None:
        self._scheduler.remove(queue for pair in self._queues.values() for queue in pair)
        self._model.close()


@dataclass(slots=True)
class _Batch:
    """``is_closed``: nothing more fits, or what came next did not."""

    due: float
    tasks: list[Task] = field(default_factory=list)
    rows: int = 0
    is_closed: bool = False


@dataclass(slots=True, eq=False)
class Queue:
    """The batches of one signature; the last one is open. Guarded by the scheduler's lock."""

    model: LoadedModel
    signature: Signature
    parameters: Parameters
    waiting: deque[_Batch] = field(default_factory=deque)

    def put(
        self, inputs: Mapping[str, np.ndarray], rows: int, deadline: float | None
    ) -> list[Task]:
        """All of it, in one piece or where that is allowed in several, or nothing."""
        most = self.parameters.max_execution_size
        pieces = self._pieces(rows)
        opened = len(pieces) - (1 if self._room() >= pieces[0] else 0)
        if len(self.waiting) + opened > self.parameters.max_enqueued and opened:
            raise Unavailable(
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{len(self.waiting)} batches enqueued and max_enqueued_batches is "
                f"{self.parameters.max_enqueued}"
            )
        tasks, at = [], 0
        for piece in pieces:
            whole = piece == rows
            part = (
                inputs
                if whole
                else {alias: array[at : at + piece] for alias, array in inputs.items()}
            )
            task = Task(part, piece, deadline)
            if self._room() < piece:
                if self.waiting:
                    self.waiting[-1].is_closed = True
                self.waiting.append(_Batch(time.monotonic() + self.parameters.timeout_s))
            batch = self.waiting[-1]
            batch.tasks.append(task)
            batch.rows += piece
            batch.is_closed = batch.rows >= most
            tasks.append(task)
            at += piece
        return tasks

    def _pieces(self, rows: int) -> list[int]:
        limit, most = self.parameters.max_batch_size, self.parameters.max_execution_size
        if rows > limit:
            raise InvalidArgument(
                f"Task size {rows} is larger than maximum input batch size {limit}"
            )
        if not self.parameters.splits:
            return [rows]
        first = min(rows, self._room() or most)
        pieces = [first]
        while (left := rows - sum(pieces)) > 0:
            pieces.append(min(left, most))
        return pieces

    def _room(self) -> int:
        if not self.waiting or self.waiting[-1].is_closed:
            return 0
        return self.parameters.max_execution_size - self.waiting[-1].rows


class Scheduler:
    """The threads that run batches, and whose turn it is: the queues are served in turn."""

    def __init__(self, threads: int, metrics: Metrics | None = None) -> None:
        self._metrics = metrics
        self._changed = threading.Condition()
        self._queues: deque[Queue] = deque()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, queues: Iterable[Queue]) -> None:
        with self._changed:
            self._queues.extend(queues)

    def remove(self, queues: Iterable[Queue]) -> None:
        gone = set(queues)
        with self._changed:
            self._queues = deque(queue for queue in self._queues if queue not in gone)

    def submit(
        self, queue: Queue, inputs: Mapping[str, np.ndarray], rows: int, deadline: float | None
    ) -> list[Task]:
        with self._changed:
            tasks = queue.put(inputs, rows, deadline)
            self._changed.notify()
        return tasks

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(1.0)

    def _work(self) -> None:
        while True:
            with self._changed:
                while (next_ := self._next()) is None:
                    if self._closed:
                        return
                    self._changed.wait(self._until_due())
            queue, batch = next_
            if self._metrics:
                _count(self._metrics, queue.parameters, batch)
            _run(queue, batch.tasks)

    def _next(self) -> tuple[Queue, _Batch] | None:
        now = time.monotonic()
        for _ in range(len(self._queues)):
            queue = self._queues[0]
            self._queues.rotate(-1)
            if queue.waiting and (queue.waiting[0].is_closed or queue.waiting[0].due <= now):
                return queue, queue.waiting.popleft()
        return None

    def _until_due(self) -> float | None:
        due = min((queue.waiting[0].due for queue in self._queues if queue.waiting), default=None)
        return None if due is None else max(0.0, due - time.monotonic())


def _count(metrics: Metrics, parameters: Parameters, batch: _Batch) -> None:
    now = time.monotonic()
    for task in batch.tasks:
        metrics.waited(parameters.thread_pool, now - task.queued, rows=task.rows)
    metrics.batched(batch.rows, batches.padded_size(batch.rows, parameters.allowed_sizes))


def _run(queue: Queue, tasks: Sequence[Task]) -> None:
    """Every task hears of its end, whatever happens."""
    try:
        batches.run(
            queue.model,
            queue.signature,
            tasks,
            sizes=queue.parameters.allowed_sizes,
            pads=queue.parameters.pads,
        )
    except HeadraceError as error:
        _fail(tasks, error)
    except Exception as error:
        _fail(tasks, Internal(f"{type(error).__name__}: {error}"))
    finally:
        for task in tasks:
            task.done.set()


def _fail(tasks: Sequence[Task], error: HeadraceError) -> None:
    for task in tasks:
        task.error = type(error)(error.message, fault=error.fault) if len(tasks) > 1 else error


def _value(message: Any, name: str, default: int, *, least: int) -> int:
    value: int = getattr(message, name).value if message.HasField(name) else default
    if value < least:
        kind = "positive" if least else "non-negative"
        raise InvalidArgument(f"{name} must be {kind}; was {value}")
    return value
