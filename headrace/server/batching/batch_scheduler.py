"""TensorFlow Serving's batch scheduler: a queue for each signature, and threads, shared by all
models, that run the batches that are full or due."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from headrace.protocol.errors import HeadraceError, Internal, InvalidArgument, Unavailable
from headrace.protocol.signatures import Signature
from headrace.server.batching import batches
from headrace.server.batching.batches import BatchTask
from headrace.server.batching.parameters import BatchingParameters
from headrace.server.engines import Arrays, LoadedModel
from headrace.server.metrics import Metrics


@dataclass(slots=True)
class Batch:
    """``is_closed``: it takes no further task."""

    due_at: float
    tasks: list[BatchTask] = field(default_factory=list)
    rows: int = 0
    is_closed: bool = False


@dataclass(slots=True, eq=False)
class BatchQueue:
    """The batches of one signature; only the last is open. Guarded by the scheduler's lock."""

    model: LoadedModel
    signature: Signature
    parameters: BatchingParameters
    batches: deque[Batch] = field(default_factory=deque)

    def put(self, inputs: Arrays, rows: int, deadline: float | None) -> list[BatchTask]:
        """Queues the whole request, in several tasks where it may be split, or raises and queues
        nothing."""
        sizes = self._task_sizes(rows)
        self._check_room_for(sizes)
        tasks = []
        start = 0
        for size in sizes:
            part = inputs
            if size != rows:
                part = {alias: array[start : start + size] for alias, array in inputs.items()}
            start += size
            task = BatchTask(part, size, deadline)
            self._add(task)
            tasks.append(task)
        return tasks

    def take(self, now: float) -> Batch | None:
        """The first batch, if it is full or due."""
        if not self.batches:
            return None
        first = self.batches[0]
        if first.is_closed or first.due_at <= now:
            return self.batches.popleft()
        return None

    def _task_sizes(self, rows: int) -> list[int]:
        parameters = self.parameters
        if rows > parameters.max_batch_size:
            raise InvalidArgument(
                f"Task size {rows} is larger than maximum input batch size "
                f"{parameters.max_batch_size}"
            )
        if not parameters.enable_large_batch_splitting:
            return [rows]
        limit = parameters.max_execution_batch_size
        # The open batch is filled up first.
        sizes = [min(rows, self._room() or limit)]
        remaining = rows - sizes[0]
        while remaining > 0:
            size = min(remaining, limit)
            sizes.append(size)
            remaining -= size
        return sizes

    def _check_room_for(self, sizes: Sequence[int]) -> None:
        new_batches = len(sizes)
        if self._room() >= sizes[0]:
            new_batches -= 1
        limit = self.parameters.max_enqueued_batches
        if new_batches and len(self.batches) + new_batches > limit:
            raise Unavailable(
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{len(self.batches)} batches enqueued and max_enqueued_batches is {limit}"
            )

    def _add(self, task: BatchTask) -> None:
        if self._room() < task.rows:
            if self.batches:
                self.batches[-1].is_closed = True
            self.batches.append(Batch(time.monotonic() + self.parameters.batch_timeout_s))
        batch = self.batches[-1]
        batch.tasks.append(task)
        batch.rows += task.rows
        batch.is_closed = batch.rows >= self.parameters.max_execution_batch_size

    def _room(self) -> int:
        """How many rows still fit into the open batch."""
        if not self.batches or self.batches[-1].is_closed:
            return 0
        return self.parameters.max_execution_batch_size - self.batches[-1].rows


class BatchScheduler:
    """Serves the queues in turn."""

    def __init__(self, threads: int, metrics: Metrics | None = None) -> None:
        self._metrics = metrics
        self._changed = threading.Condition()
        self._queues: deque[BatchQueue] = deque()
        self._closed = False
        self._threads: list[threading.Thread] = []
        for number in range(threads):
            thread = threading.Thread(target=self._work, name=f"batch-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def add(self, queues: Iterable[BatchQueue]) -> None:
        with self._changed:
            self._queues.extend(queues)

    def remove(self, queues: Iterable[BatchQueue]) -> None:
        removed = set(queues)
        with self._changed:
            self._queues = deque(queue for queue in self._queues if queue not in removed)

    def submit(
        self,
        queue: BatchQueue,
        inputs: Arrays,
        rows: int,
        deadline: float | None,
    ) -> list[BatchTask]:
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
                scheduled = self._take()
                while scheduled is None:
                    if self._closed:
                        return
                    self._changed.wait(self._until_due_s())
                    scheduled = self._take()
            queue, batch = scheduled
            if self._metrics:
                _count(self._metrics, queue.parameters, batch)
            _run(queue, batch.tasks)

    def _take(self) -> tuple[BatchQueue, Batch] | None:
        now = time.monotonic()
        for _ in range(len(self._queues)):
            queue = self._queues[0]
            self._queues.rotate(-1)
            batch = queue.take(now)
            if batch is not None:
                return queue, batch
        return None

    def _until_due_s(self) -> float | None:
        """None while nothing is queued."""
        due = [queue.batches[0].due_at for queue in self._queues if queue.batches]
        if not due:
            return None
        return max(0.0, min(due) - time.monotonic())


def _count(metrics: Metrics, parameters: BatchingParameters, batch: Batch) -> None:
    now = time.monotonic()
    for task in batch.tasks:
        metrics.waited(parameters.thread_pool_name, now - task.enqueued_at, rows=task.rows)
    padded_rows = batches.padded_size(batch.rows, parameters.allowed_batch_sizes)
    metrics.batched(batch.rows, padded_rows)


def _run(queue: BatchQueue, tasks: Sequence[BatchTask]) -> None:
    """Whatever happens, every task ends with outputs or an error."""
    parameters = queue.parameters
    try:
        batches.run(
            queue.model,
            queue.signature,
            tasks,
            sizes=parameters.allowed_batch_sizes,
            pads=parameters.pad_variable_length_inputs,
        )
    except HeadraceError as error:
        _fail(tasks, error)
    except Exception as error:
        _fail(tasks, Internal(f"{type(error).__name__}: {error}"))
    finally:
        for task in tasks:
            task.done.set()


def _fail(tasks: Sequence[BatchTask], error: HeadraceError) -> None:
    """An error of its own for each task, as each is raised in another thread."""
    if len(tasks) == 1:
        tasks[0].error = error
        return
    for task in tasks:
        task.error = type(error)(error.message, fault=error.fault)
