"""Batched calls of a thread that may block, as gRPC's are: it runs its request at once, waits while
others run it, or runs a batch for others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from queue import Empty, SimpleQueue

from headrace.protocol.errors import Cancelled, DeadlineExceeded, HeadraceError
from headrace.server.batching.batcher import Batch, Batcher, PendingRequest
from headrace.server.deadlines import TIMED_OUT, wait_s
from headrace.server.engines import Arrays

# What can wake the thread, beside a batch to run.
_DONE = "done"
_LEFT = "left"


class Caller:
    """Somebody who waits for an answer, and may leave before it comes."""

    __slots__ = ("_has_left", "_on_leave")

    def __init__(self) -> None:
        self._has_left = False
        self._on_leave: Callable[[], None] | None = None

    def has_left(self) -> bool:
        return self._has_left

    def leave(self) -> None:
        self._has_left = True
        if self._on_leave is not None:
            self._on_leave()

    def when_left(self, callback: Callable[[], None]) -> None:
        """``callback`` is called in the thread that notices that the caller has left."""
        self._on_leave = callback
        if self._has_left:
            callback()


# Who waits for what this thread does, where that is known: the gRPC door sets it.
CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


def run(
    batcher: Batcher, inputs: Arrays, output_names: Sequence[str], *, deadline: float | None
) -> Arrays:
    caller = CALLER.get()
    events: SimpleQueue[Batch | str] = SimpleQueue()
    request = PendingRequest(
        inputs,
        tuple(output_names),
        len(next(iter(inputs.values()))),
        deadline,
        on_done=lambda: events.put(_DONE),
        on_lead=events.put,
        is_gone=caller.has_left if caller is not None else None,
        batch_key=batcher.batch_key(inputs, output_names),
    )
    if caller is not None:
        caller.when_left(lambda: events.put(_LEFT))
    batch = batcher.submit(request)
    while True:
        if batch is not None:
            batcher.run(batch)
            batcher.finish(batch)
        event = _next_event(events, batcher, request)
        if event is _DONE:
            break
        batch = event if isinstance(event, list) else None
    if request.error is not None:
        raise request.error
    return request.outputs


def _next_event(
    events: SimpleQueue[Batch | str], batcher: Batcher, request: PendingRequest
) -> Batch | str:
    """Raises when the deadline passes or the caller leaves, unless others count on this thread to
    run their batch."""
    timeout_s = None if request.is_leader else wait_s(request.deadline)
    error: HeadraceError
    try:
        event = events.get(timeout=timeout_s)
        error = Cancelled("The caller has left")
    except Empty:
        event = _LEFT
        error = DeadlineExceeded(TIMED_OUT)
    if event is _LEFT and (batcher.withdraw(request, error) or not request.is_leader):
        raise error
    return event
