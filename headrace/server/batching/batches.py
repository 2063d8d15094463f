"""One batch: joins the tensors of several requests, runs them, and splits the outputs again. Knows
nothing of queues."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from headrace.protocol.errors import (
    FailedPrecondition,
    HeadraceError,
    InvalidArgument,
    ResourceExhausted,
)
from headrace.protocol.signatures import Shape, Signature
from headrace.server.engines import Arrays, LoadedModel

# TensorFlow Serving pads no tensor of a higher rank.
_MAX_RANK = 6


@dataclass(slots=True, eq=False)
class BatchTask:
    """A request or a part of one. ``done`` is set once there are outputs or an error."""

    inputs: Arrays
    rows: int
    deadline: float | None
    enqueued_at: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    outputs: Arrays = field(default_factory=dict)
    error: HeadraceError | None = None


def rows(inputs: Arrays) -> int:
    """The number of rows, which must be the same in every input."""
    if not inputs:
        raise InvalidArgument("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in inputs.values()):
        raise InvalidArgument("Batching Run() input tensors must have at least one dimension")
    sizes = {len(array) for array in inputs.values()}
    if len(sizes) > 1:
        raise InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def has_dtypes(signature: Signature, inputs: Arrays) -> bool:
    """Whether the inputs have the signature's dtypes: only tensors of one dtype can be joined."""
    for alias, array in inputs.items():
        dtype = signature.inputs[alias].dtype
        if dtype is None or dtype.numpy != array.dtype:
            return False
    return True


def has_shapes(signature: Signature, inputs: Arrays) -> bool:
    """Whether each row of the inputs has the shape that the signature declares."""
    for alias, array in inputs.items():
        if not _fits(array.shape, signature.inputs[alias].shape):
            return False
    return True


def _fits(shape: Shape, declared: Shape | None) -> bool:
    if not declared:
        return True
    if len(shape) != len(declared):
        return False
    for size, declared_size in zip(shape[1:], declared[1:], strict=True):
        if declared_size not in (-1, size):
            return False
    return True


def run(
    model: LoadedModel,
    signature: Signature,
    tasks: Sequence[BatchTask],
    *,
    sizes: Sequence[int] = (),
    pads: bool = False,
) -> None:
    """Gives each task its rows of the outputs. Raises an error that concerns all of them."""
    timeout_s = _timeout_s(tasks)
    batch_rows = sum(task.rows for task in tasks)
    padded_rows = padded_size(batch_rows, sizes)
    merged = {}
    for alias in tasks[0].inputs:
        merged[alias] = _merged(alias, signature, tasks, padded_rows - batch_rows, pads)
    outputs = model.run(signature, merged, tuple(signature.outputs), timeout_s=timeout_s)
    for array in outputs.values():
        if array.ndim == 0:
            raise FailedPrecondition("Batched output tensor has 0 dimensions")
        if array.shape[0] != padded_rows:
            raise FailedPrecondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                "dimension sizes of the input tensors"
            )
    start = 0
    for task in tasks:
        stop = start + task.rows
        task.outputs = {alias: array[start:stop] for alias, array in outputs.items()}
        start = stop


def padded_size(rows: int, sizes: Sequence[int]) -> int:
    """The smallest of the allowed sizes that holds so many rows."""
    for size in sizes:
        if size >= rows:
            return size
    return rows


def _timeout_s(tasks: Sequence[BatchTask]) -> float | None:
    """Until the last deadline; a task with an earlier one is given up by its caller."""
    deadlines = []
    for task in tasks:
        if task.deadline is None:
            return None
        deadlines.append(task.deadline)
    remaining = max(deadlines) - time.monotonic()
    if remaining <= 0:
        raise ResourceExhausted("Run() timeout exceeded while waiting in batching queue")
    return remaining


def _merged(
    alias: str, signature: Signature, tasks: Sequence[BatchTask], padding: int, pads: bool
) -> np.ndarray:
    parts = [task.inputs[alias] for task in tasks]
    if len(parts) == 1 and not padding:
        return parts[0]
    if any(part.shape[1:] != parts[0].shape[1:] for part in parts):
        if not pads:
            # The missing blanks are TensorFlow Serving's.
            raise FailedPrecondition(
                f"Tensors with name '{signature.inputs[alias].tensor_name}' from different tasks "
                "have different shapes and padding is turned off.Set pad_variable_length_inputs "
                "to true, or ensure that all tensors with the same namehave equal dimensions "
                "starting with the first dim."
            )
        parts = _padded(parts)
    # The padding repeats a row of the last request, which is sure to be valid.
    return np.concatenate([*parts, *([parts[-1][:1]] * padding)])


def _padded(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """To the largest size of each dimension, with each tensor's own first element."""
    ranks = {part.ndim for part in parts}
    if len(ranks) > 1 or ranks.pop() > _MAX_RANK:
        raise InvalidArgument("Only tensors with rank from 1 to 6 can be padded.")
    inner_shapes = [part.shape[1:] for part in parts]
    shape = tuple(max(sizes) for sizes in zip(*inner_shapes, strict=True))
    padded = []
    for part in parts:
        if part.shape[1:] == shape:
            padded.append(part)
            continue
        if not part.size:
            raise InvalidArgument("Got empty tensor in batch of non-empty tensors.")
        larger = np.empty((part.shape[0], *shape), part.dtype)
        larger[...] = part.flat[0]
        larger[tuple(slice(0, size) for size in part.shape)] = part
        padded.append(larger)
    return padded
