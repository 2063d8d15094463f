"""One batch: the tensors of several requests put together, run as one, and taken apart again. Knows
no queue or clock but deadlines."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from headrace.protocol.errors import (
    FailedPrecondition,
    HeadraceError,
    InvalidArgument,
    ResourceExhausted,
)
from headrace.protocol.signatures import Shape, Signature
from headrace.server.engines import LoadedModel

# That TensorFlow Serving pads.
_MOST_DIMENSIONS = 6


@dataclass(slots=True, eq=False)
class Task:
    """A request or a piece of one. ``done`` is set once there are outputs or an error."""

    inputs: Mapping[str, np.ndarray]
    rows: int
    deadline: float | None
    queued: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    error: HeadraceError | None = None


def rows(inputs: Mapping[str, np.ndarray]) -> int:
    """How many rows a request has, in every input the same."""
    if not inputs:
        raise InvalidArgument("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in inputs.values()):
        raise InvalidArgument("Batching Run() input tensors must have at least one dimension")
    sizes = {len(array) for array in inputs.values()}
    if len(sizes) > 1:
        raise InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def has_dtypes(signature: Signature, inputs: Mapping[str, np.ndarray]) -> bool:
    """Whether the inputs are of the signature's types: what is not cannot be put together with what
    is."""
    specs = ((signature.inputs[alias].dtype, array.dtype) for alias, array in inputs.items())
    return all(wanted is not None and wanted.numpy == found for wanted, found in specs)


def has_shapes(signature: Signature, inputs: Mapping[str, np.ndarray]) -> bool:
    """Whether each row of the inputs has the shape that the signature promises to take."""
    return all(_fits(signature.inputs[alias].shape, array.shape) for alias, array in inputs.items())


def _fits(wanted: Shape | None, shape: Shape) -> bool:
    if not wanted:
        return True
    return len(wanted) == len(shape) and all(
        w in (-1, d) for w, d in zip(wanted[1:], shape[1:], strict=True)
    )


def run(
    model: LoadedModel,
    signature: Signature,
    tasks: Sequence[Task],
    *,
    sizes: Sequence[int] = (),
    pads: bool = False,
) -> None:
    """Leaves in each task its rows of the outputs. Raises what concerns them all."""
    timeout_s = _timeout_s(tasks)
    total = sum(task.rows for task in tasks)
    wanted = padded_size(total, sizes)
    merged = {
        alias: _merged(alias, signature, tasks, wanted - total, pads) for alias in tasks[0].inputs
    }
    answers = model.run(signature, merged, tuple(signature.outputs), timeout_s=timeout_s)
    for array in answers.values():
        if array.ndim == 0:
            raise FailedPrecondition("Batched output tensor has 0 dimensions")
        if array.shape[0] != wanted:
            raise FailedPrecondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                "dimension sizes of the "
                "input tensors"
            )
    at = 0
    for task in tasks:
        task.outputs = {alias: array[at : at + task.rows] for alias, array in answers.items()}
        at += task.rows


def padded_size(rows: int, sizes: Sequence[int]) -> int:
    """The least of the allowed sizes that holds so many rows."""
    return next((size for size in sizes if size >= rows), rows)


def _timeout_s(tasks: Sequence[Task]) -> float | None:
    """Until the last of them gives up; the others hear of their deadlines by themselves."""
    deadlines = [task.deadline for task in tasks]
    if None in deadlines:
        return None
    left = max(d for d in deadlines if d is not None) - time.monotonic()
    if left <= 0:
        raise ResourceExhausted("Run() timeout exceeded while waiting in batching queue")
    return left


def _merged(
    alias: str, signature: Signature, tasks: Sequence[Task], padding: int, pads: bool
) -> np.ndarray:
    parts = [task.inputs[alias] for task in tasks]
    if len(parts) == 1 and not padding:
        return parts[0]
    if any(part.shape[1:] != parts[0].shape[1:] for part in parts):
        if not pads:
            # The missing blanks are TensorFlow Serving's.
            raise FailedPrecondition(
                f"Tensors with name '{signature.inputs[alias].tensor_name}' from different tasks "
                "have different shapes "
                "and padding is turned off.Set pad_variable_length_inputs to true, or ensure that "
                "all tensors with "
                "the same namehave equal dimensions starting with the first dim."
            )
        parts = _padded(parts)
    # Of the last request, whose rows are sure to be good ones, the first is repeated.
    return np.concatenate([*parts, *([parts[-1][:1]] * padding)])


def _padded(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """To the largest of each dimension, with each tensor's own first element."""
    ranks = {part.ndim for part in parts}
    if len(ranks) > 1 or ranks.pop() > _MOST_DIMENSIONS:
        raise InvalidArgument("Only tensors with rank from 1 to 6 can be padded.")
    shape = tuple(max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True))
    found = []
    for part in parts:
        if part.shape[1:] == shape:
            found.append(part)
            continue
        if not part.size:
            raise InvalidArgument("Got empty tensor in batch of non-empty tensors.")
        whole = np.empty((part.shape[0], *shape), part.dtype)
        whole[...] = part.flat[0]
        whole[tuple(slice(0, size) for size in part.shape)] = part
        found.append(whole)
    return found
