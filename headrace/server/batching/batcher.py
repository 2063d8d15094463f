"""Adaptive batching without a timer: an idle batcher runs a request at once; while a batch runs,
new requests queue and become the next one.

A Batcher belongs to one signature whose rows are known to be independent. It has no thread of its
own and knows no protocol: the threads and event loops that bring the requests run the batches
(thread_batcher.py, async_batcher.py).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from headrace.protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    HeadraceError,
    Internal,
    Unavailable,
)
from headrace.protocol.signatures import Signature
from headrace.server.batching import batches
from headrace.server.deadlines import TIMED_OUT, remaining_s
from headrace.server.engines import Arrays, LoadedModel
from headrace.server.metrics import Metrics

# Callers can send any number of shapes; only so many verdicts are cached.
_MAX_CACHED_SHAPES = 256
# The name of the thread pool in the metrics.
POOL = "adaptive"


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_waiting``: queued requests of a signature. ``parallel``: its batches that may run at
    once."""

    max_rows: int = 64
    max_waiting: int = 1000
    parallel: int = 1


@dataclass(slots=True, eq=False)
class PendingRequest:
    """A request that waits to be run. Both callbacks may be called in any thread and must not
    block: ``on_done`` once there are outputs or an error, ``on_lead`` with a batch that starts with
    this request and that its caller has to run."""

    inputs: Arrays
    output_names: tuple[str, ...]
    rows: int
    deadline: float | None
    on_done: Callable[[], None]
    on_lead: Callable[[Batch], None]
    is_gone: Callable[[], bool] | None = None
    # Only requests with equal keys run together.
    batch_key: object = None
    enqueued_at: float = field(default_factory=time.monotonic)
    outputs: Arrays = field(default_factory=dict)
    error: HeadraceError | None = None
    # True once its caller has to run a batch, which nobody else will run.
    is_leader: bool = False


Batch = list[PendingRequest]


class Batcher:
    """The queue of one signature."""

    def __init__(
        self,
        model: LoadedModel,
        signature: Signature,
        limits: Limits,
        *,
        name: str = "",
        metrics: Metrics | None = None,
    ) -> None:
        self.model = model
        self.signature = signature
        self.limits = limits
        self._name = name or signature.name
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: deque[PendingRequest] = deque()
        self._running = 0
        self._free_inputs = tuple(
            alias for alias, spec in signature.inputs.items() if -1 in (spec.shape or ())[1:]
        )
        self._accepted: dict[tuple[object, ...], bool] = {}

    def accepts(self, signature: Signature, inputs: Arrays) -> bool:
        """Whether a request may run with others: its types and shapes are the signature's, and it
        is not too large."""
        if signature is not self.signature:
            return False
        key = tuple([(alias, array.shape, array.dtype) for alias, array in inputs.items()])
        is_accepted = self._accepted.get(key)
        if is_accepted is None:
            is_accepted = self._accepts(signature, inputs)
            if len(self._accepted) < _MAX_CACHED_SHAPES:
                self._accepted[key] = is_accepted
        return is_accepted

    def batch_key(self, inputs: Arrays, output_names: Sequence[str]) -> object:
        """Requests run together when they want the same outputs and have the same inner shapes."""
        names = tuple(output_names)
        if not self._free_inputs:
            return names
        return (names, *[inputs[alias].shape[1:] for alias in self._free_inputs])

    def expected_s(self, batch: Batch) -> float:
        """How long the batch will probably take to run."""
        return self.model.expected_s(self.signature, [request.inputs for request in batch])

    def submit(self, request: PendingRequest) -> Batch | None:
        """The batch that the caller has to run now; None where the request waits and hears by its
        callbacks."""
        with self._lock:
            if self._running < self.limits.parallel and not self._waiting:
                self._running += 1
                return [request]
            self._enqueue(request)
            return None

    def enqueue(self, request: PendingRequest) -> bool:
        """Queues the request in any case; True where nothing runs: the caller must then call
        next_batch() soon."""
        with self._lock:
            self._enqueue(request)
            return self._running < self.limits.parallel

    def next_batch(self) -> Batch | None:
        """The queued requests that the caller has to run now; None where there are none, or where
        as many batches run as may."""
        with self._lock:
            if self._running >= self.limits.parallel or not self._waiting:
                return None
            batch = self._take_batch()
            if not batch:
                return None
            self._running += 1
            return batch

    def withdraw(self, request: PendingRequest, error: HeadraceError) -> bool:
        """Takes a request out of the queue; False where it already runs."""
        with self._lock:
            try:
                self._waiting.remove(request)
            except ValueError:
                return False
        request.error = error
        return True

    def run(self, batch: Batch) -> None:
        """Every request of the batch gets its outputs or its own error."""
        if self._metrics:
            self._count(self._metrics, batch)
        try:
            self._run(batch)
        except (Unavailable, DeadlineExceeded) as error:
            # This is no single request's fault.
            _fail(batch, error)
        except HeadraceError as error:
            if len(batch) == 1:
                _fail(batch, error)
            else:
                self._run_singly(batch)
        except Exception as error:
            _fail(batch, Internal(f"{type(error).__name__}: {error}"))

    def finish(self, batch: Batch, *, takes_next: bool = False) -> Batch | None:
        """Answers the requests of a batch that has run. The next batch goes to the caller where it
        ``takes_next``, else to one of the callers that wait."""
        with self._lock:
            following = self._take_batch() if self._waiting else []
            if not following:
                self._running -= 1
            elif not takes_next:
                following[0].is_leader = True
        for request in batch:
            request.on_done()
        if not following:
            return None
        if takes_next:
            return following
        following[0].on_lead(following)
        return None

    def _accepts(self, signature: Signature, inputs: Arrays) -> bool:
        if inputs.keys() != signature.inputs.keys():
            return False
        first = next(iter(inputs.values()))
        if first.ndim == 0 or not 0 < len(first) <= self.limits.max_rows:
            return False
        if any(len(array) != len(first) for array in inputs.values() if array.ndim):
            return False
        return batches.has_shapes(signature, inputs) and batches.has_dtypes(signature, inputs)

    def _enqueue(self, request: PendingRequest) -> None:
        if len(self._waiting) >= self.limits.max_waiting:
            raise Unavailable(
                f"The queue of {self._name} is full: {self.limits.max_waiting} requests wait "
                "already; try again later"
            )
        self._waiting.append(request)

    def _take_batch(self) -> Batch:
        """The first request, and those behind it with the same key, as many as fit. Requests whose
        caller has left or whose deadline has passed are answered with an error."""
        batch: Batch = []
        rows = 0
        now = time.monotonic()
        passed_over: deque[PendingRequest] = deque()
        while self._waiting:
            request = self._waiting.popleft()
            error = _expiry(request, now)
            if error is not None:
                request.error = error
                request.on_done()
            elif batch and request.batch_key != batch[0].batch_key:
                passed_over.append(request)
            elif batch and rows + request.rows > self.limits.max_rows:
                # A smaller request behind this one must not get in before it.
                passed_over.append(request)
                break
            else:
                batch.append(request)
                rows += request.rows
        self._waiting.extendleft(reversed(passed_over))
        return batch

    def _run(self, batch: Batch) -> None:
        names = batch[0].output_names
        if len(batch) == 1:
            (request,) = batch
            timeout_s = remaining_s(request.deadline)
            request.outputs = self.model.run(
                self.signature, request.inputs, names, timeout_s=timeout_s
            )
            return
        merged = {}
        for alias in batch[0].inputs:
            merged[alias] = np.concatenate([request.inputs[alias] for request in batch])
        timeout_s = remaining_s(_last_deadline(batch))
        outputs = self.model.run(self.signature, merged, names, timeout_s=timeout_s)
        rows = sum(request.rows for request in batch)
        if any(array.shape[:1] != (rows,) for array in outputs.values()):
            raise Internal("a batch was answered with another number of rows")
        start = 0
        for request in batch:
            stop = start + request.rows
            request.outputs = {alias: array[start:stop] for alias, array in outputs.items()}
            start = stop

    def _run_singly(self, batch: Batch) -> None:
        """One of the requests makes the batch fail: each gets what it would have got alone."""
        for request in batch:
            try:
                self._run([request])
            except HeadraceError as error:
                request.error = error
            except Exception as error:
                request.error = Internal(f"{type(error).__name__}: {error}")

    def _count(self, metrics: Metrics, batch: Batch) -> None:
        now = time.monotonic()
        for request in batch:
            metrics.waited(POOL, now - request.enqueued_at, rows=request.rows)
        rows = sum(request.rows for request in batch)
        metrics.batched(rows, rows)


def _expiry(request: PendingRequest, now: float) -> HeadraceError | None:
    """Why nobody waits for the request any more; None where somebody does."""
    if request.is_gone is not None and request.is_gone():
        return Cancelled("The caller has left")
    if request.deadline is not None and request.deadline <= now:
        return DeadlineExceeded(TIMED_OUT)
    return None


def _last_deadline(batch: Batch) -> float | None:
    deadlines = []
    for request in batch:
        if request.deadline is None:
            return None
        deadlines.append(request.deadline)
    return max(deadlines)


def _fail(batch: Batch, error: HeadraceError) -> None:
    """An error of its own for each request: raised in several threads, one would mix up their
    tracebacks."""
    if len(batch) == 1:
        batch[0].error = error
        return
    for request in batch:
        request.error = type(error)(error.message, fault=error.fault)
