"""Adaptive batching without a timer: idle means run now, busy means gather what comes and run it as
one batch.

A Batcher belongs to one signature whose rows are known not to see each other. Whoever finds it
idle runs; who comes meanwhile waits, and one of those is asked to run them all. It has no thread of
its own and knows no protocol.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

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
from headrace.server.engines import LoadedModel, bytes_in
from headrace.server.metrics import Metrics

_DECIDED, _LEFT = "decided", "left"
# TensorFlow's own words.
TIMED_OUT = "Timed out waiting for notification"
# Kinds of tensors known to fit.
_KEPT = 256
# As the metrics name it.
POOL = "adaptive"

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Limits:
    """``parallel``: batches of a signature under way at once. ``max_waiting``: requests of a
    signature that wait."""

    max_rows: int = 64
    max_waiting: int = 1000
    parallel: int = 1


@dataclass(slots=True, eq=False)
class PendingRequest:
    """One request. ``decided`` is called once there are outputs or an error; ``lead`` with a batch
    to be run, which begins with this request. Both may be called in any thread, and must not
    wait."""

    inputs: Arrays
    outputs_wanted: tuple[str, ...]
    rows: int
    deadline: float | None
    decided: Callable[[], None]
    lead: Callable[[Batch], None]
    is_gone: Callable[[], bool] | None = None
    # Only requests of the same kind run together.
    kind: object = None
    queued: float = field(default_factory=time.monotonic)
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    error: HeadraceError | None = None
    # A batch is on its way to it, which nobody else will run.
    leads: bool = False


Batch = list[PendingRequest]


class Caller:
    """Somebody who waits for an answer, and may leave before it comes."""

    __slots__ = ("_has_left", "_tell")

    def __init__(self) -> None:
        self._has_left = False
        self._tell: Callable[[], None] | None = None

    def has_left(self) -> bool:
        return self._has_left

    def leave(self) -> None:
        self._has_left = True
        if self._tell is not None:
            self._tell()

    def tell(self, how: Callable[[], None]) -> None:
        """``how`` is called when the caller leaves, in the thread where that is noticed."""
        self._tell = how
        if self._has_left:
            how()


class Batcher:
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
        free = [alias for alias, spec in signature.inputs.items() if -1 in (spec.shape or ())[1:]]
        self._free = tuple(free)
        self._taken: set[tuple[object, ...]] = set()

    def takes(self, signature: Signature, inputs: Arrays) -> bool:
        """Whether this request may be put together with others: of the signature's types and
        shapes, not too large."""
        if signature is not self.signature:
            return False
        key = tuple([(alias, array.shape, array.dtype) for alias, array in inputs.items()])
        if key in self._taken:
            return True
        is_taken = self._takes(signature, inputs)
        if is_taken and len(self._taken) < _KEPT:
            self._taken.add(key)
        return is_taken

    def _takes(self, signature: Signature, inputs: Arrays) -> bool:
        if inputs.keys() != signature.inputs.keys():
            return False
        first = next(iter(inputs.values()))
        if first.ndim == 0 or not 0 < len(first) <= self.limits.max_rows:
            return False
        if any(len(array) != len(first) for array in inputs.values() if array.ndim):
            return False
        return batches.has_shapes(signature, inputs) and batches.has_dtypes(signature, inputs)

    def kind(self, inputs: Arrays, outputs: Sequence[str]) -> object:
        """Different inner shapes are not mixed, nor are different outputs."""
        return (
            tuple(outputs)
            if not self._free
            else (tuple(outputs), *(inputs[alias].shape[1:] for alias in self._free))
        )

    def expected_s(self, batch: Batch) -> float:
        """How long it will probably take."""
        return self.model.expected_s(self.signature, sum(bytes_in(ask.inputs) for ask in batch))

    def offer(self, ask: PendingRequest) -> Batch | None:
        """The batch to run now where there is room for one; else None: it waits, and hears by its
        callbacks."""
        with self._lock:
            if self._running < self.limits.parallel and not self._waiting:
                self._running += 1
                return [ask]
            self._queue(ask)
            return None

    def wait(self, ask: PendingRequest) -> bool:
        """It waits, even where nothing is under way; True in that case: somebody must call begin()
        soon."""
        with self._lock:
            self._queue(ask)
            return self._running < self.limits.parallel

    def begin(self) -> Batch | None:
        """What waits, to be run by the caller; None where nothing does, or there is no room."""
        with self._lock:
            if self._running >= self.limits.parallel or not self._waiting:
                return None
            batch = self._take()
            self._running += bool(batch)
        return batch or None

    def forget(self, ask: PendingRequest, error: HeadraceError) -> bool:
        """Takes it out of those that wait; False where it is being run already."""
        with self._lock:
            try:
                self._waiting.remove(ask)
            except ValueError:
                return False
        ask.error = error
        return True

    def run(self, batch: Batch) -> None:
        """Every request of it gets its answer or its own error."""
        if self._metrics:
            now = time.monotonic()
            for ask in batch:
                self._metrics.waited(POOL, now - ask.queued, rows=ask.rows)
            rows = sum(ask.rows for ask in batch)
            self._metrics.batched(rows, rows)
        try:
            self._run(batch)
        except (Unavailable, DeadlineExceeded) as error:
            # No fault of one of them.
            _fail(batch, error)
        except HeadraceError as error:
            if len(batch) == 1:
                _fail(batch, error)
            else:
                self._run_singly(batch)
        except Exception as error:
            _fail(batch, Internal(f"{type(error).__name__}: {error}"))

    def end(self, batch: Batch, *, goes_on: bool = False) -> Batch | None:
        """Tells all of a batch that was run, and hands on to those who wait: to the caller, as the
        batch to run next, where it ``goes_on``; else to the first of them."""
        with self._lock:
            next_ = self._take() if self._waiting else []
            if not next_:
                self._running -= 1
            elif not goes_on:
                next_[0].leads = True
        for ask in batch:
            ask.decided()
        if next_ and not goes_on:
            next_[0].lead(next_)
            return None
        return next_ or None

    def _queue(self, ask: PendingRequest) -> None:
        if len(self._waiting) >= self.limits.max_waiting:
            raise Unavailable(
                f"The queue of {self._name} is full: {self.limits.max_waiting} requests wait "
                "already; try again later"
            )
        self._waiting.append(ask)

    def _take(self) -> Batch:
        """As many of one kind as fit, in their order; who has left or waited too long is passed
        over."""
        batch: Batch = []
        rows, now = 0, time.monotonic()
        kept: deque[PendingRequest] = deque()
        while self._waiting:
            ask = self._waiting.popleft()
            if ask.is_gone is not None and ask.is_gone():
                ask.error = Cancelled("The caller has left")
            elif ask.deadline is not None and ask.deadline <= now:
                ask.error = DeadlineExceeded(TIMED_OUT)
            elif batch and (ask.kind != batch[0].kind or rows + ask.rows > self.limits.max_rows):
                kept.append(ask)
                if ask.kind == batch[0].kind:
                    # In their order: no smaller one gets in before it.
                    break
                continue
            else:
                batch.append(ask)
                rows += ask.rows
                continue
            ask.decided()
        self._waiting.extendleft(reversed(kept))
        return batch

    def _run(self, batch: Batch) -> None:
        wanted = batch[0].outputs_wanted
        if len(batch) == 1:
            (ask,) = batch
            ask.outputs = self.model.run(
                self.signature, ask.inputs, wanted, timeout_s=_left(ask.deadline)
            )
            return
        deadlines = [ask.deadline for ask in batch]
        last = None if None in deadlines else max(d for d in deadlines if d is not None)
        merged = {
            alias: np.concatenate([ask.inputs[alias] for ask in batch]) for alias in batch[0].inputs
        }
        answers = self.model.run(self.signature, merged, wanted, timeout_s=_left(last))
        rows = sum(ask.rows for ask in batch)
        if any(array.shape[:1] != (rows,) for array in answers.values()):
            raise Internal("a batch was answered with another number of rows")
        at = 0
        for ask in batch:
            ask.outputs = {alias: array[at : at + ask.rows] for alias, array in answers.items()}
            at += ask.rows

    def _run_singly(self, batch: Batch) -> None:
        """Something in it is poison: alone, each gets what it would have got without the others."""
        for ask in batch:
            try:
                self._run([ask])
            except HeadraceError as error:
                ask.error = error
            except Exception as error:
                ask.error = Internal(f"{type(error).__name__}: {error}")


def run(
    batcher: Batcher,
    inputs: Arrays,
    outputs: Sequence[str],
    *,
    deadline: float | None,
    caller: Caller | None = None,
) -> dict[str, np.ndarray]:
    """In a thread that may wait: alone, with others, or for others."""
    box: SimpleQueue[Batch | str] = SimpleQueue()
    ask = PendingRequest(
        *(inputs, tuple(outputs), len(next(iter(inputs.values()))), deadline),
        *(lambda: box.put(_DECIDED), box.put),
        is_gone=caller.has_left if caller is not None else None,
        kind=batcher.kind(inputs, outputs),
    )
    if caller is not None:
        caller.tell(lambda: box.put(_LEFT))
    batch = batcher.offer(ask)
    while True:
        if batch is not None:
            batcher.run(batch)
            batcher.end(batch)
        token = _next(box, batcher, ask, deadline)
        if token is _DECIDED:
            break
        batch = token if isinstance(token, list) else None
    if ask.error is not None:
        raise ask.error
    return ask.outputs


def _next(
    box: SimpleQueue[Batch | str], batcher: Batcher, ask: PendingRequest, deadline: float | None
) -> Batch | str:
    """What it is told; raises where the caller is not to wait any longer, unless others count on
    it."""
    try:
        token = box.get(
            timeout=None if deadline is None or ask.leads else max(0.0, deadline - time.monotonic())
        )
        error: HeadraceError = Cancelled("The caller has left")
    except Empty:
        token, error = _LEFT, DeadlineExceeded(TIMED_OUT)
    if token is _LEFT and (batcher.forget(ask, error) or not ask.leads):
        raise error
    return token


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded(TIMED_OUT)
    return left


def _fail(batch: Batch, error: HeadraceError) -> None:
    for ask in batch:
        ask.error = type(error)(error.message, fault=error.fault) if len(batch) > 1 else error
