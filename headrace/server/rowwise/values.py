"""What is known about a tensor before anything runs: whether it follows the rows of a request, and
its shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

# A dimension that is the same for all rows but is not known before the graph runs.
UNKNOWN = -1

Shape = tuple[int, ...]


class NotRowWise(Exception):
    """Why rows may depend on each other, or why that cannot be excluded."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A tensor in which each row of the request has ``per_row`` entries of the first dimension, in
    the order of the rows. No entry depends on another row. ``inner`` are the other dimensions."""

    inner: Shape
    per_row: int = 1

    @property
    def rank(self) -> int:
        return len(self.inner) + 1

    @property
    def size(self) -> int:
        """The number of elements of a row, or UNKNOWN."""
        if UNKNOWN in self.inner:
            return UNKNOWN
        return self.per_row * product(self.inner)

    def with_inner(self, inner: Sequence[int]) -> Rows:
        return Rows(tuple(inner), self.per_row)

    def with_axis(self, axis: int, *sizes: int) -> Rows:
        """With other dimensions, or none, in the place of one."""
        return self.with_inner((*self.inner[: axis - 1], *sizes, *self.inner[axis:]))

    def with_new_axis(self, axis: int, size: int) -> Rows:
        return self.with_inner((*self.inner[: axis - 1], size, *self.inner[axis - 1 :]))


@dataclass(frozen=True, slots=True)
class Fixed:
    """A tensor that is the same for every request. None for a shape or value that is unknown."""

    shape: Shape | None = None
    value: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class RowCount:
    """A dimension that is the number of rows, times a constant."""

    times: int


@dataclass(frozen=True, slots=True)
class Dims:
    """A tensor that holds dimensions of a tensor of Rows as numbers; a single one may be a
    scalar."""

    items: tuple[int | RowCount, ...]
    is_scalar: bool = False


@dataclass(frozen=True, slots=True)
class Variable:
    """A resource that holds a tensor of this shape, which requests only read."""

    shape: Shape | None


@dataclass(frozen=True, slots=True)
class Table:
    """A lookup table of scalars."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """A tensor that depends on several rows. An operation that uses it refutes the proof."""

    reason: str


Value = Rows | Fixed | Dims | Variable | Table | Mixed
Values = Sequence[Value]


def refute(reason: str) -> NoReturn:
    """Ends the proof: the signature is not row-wise."""
    raise NotRowWise(reason)


def product(sizes: Sequence[int]) -> int:
    return int(np.prod(sizes, dtype=np.int64))


def number(value: Value) -> int:
    """A known scalar."""
    numbers = vector(value)
    if len(numbers) != 1:
        refute("a number that is not known at load")
    return numbers[0]


def vector(value: Value) -> list[int]:
    """Known numbers."""
    if not isinstance(value, Fixed) or value.value is None:
        refute("numbers that are not known at load")
    return [int(number) for number in np.ravel(value.value)]


def dims(value: Value) -> tuple[int | RowCount, ...]:
    """A shape that is given to an operation. UNKNOWN stands for a free dimension or for the -1 of
    the graph itself."""
    if isinstance(value, Dims):
        return value.items
    return tuple(vector(value))


def axis(number: int, rank: int) -> int:
    """Counted from the front. The first axis is the rows' and refutes the proof."""
    position = number + rank if number < 0 else number
    if position == 0:
        refute("works along the rows")
    if not 0 < position < rank:
        refute("an axis that is not there")
    return position


def require_rows(value: Value, what: str = "an input") -> Rows:
    if not isinstance(value, Rows):
        refute(f"{what} is not made of rows")
    return value


def require_aligned(values: Sequence[Rows]) -> Rows:
    """The first of several tensors whose rows must have the same rank and entries."""
    first = values[0]
    for value in values:
        if value.rank != first.rank or value.per_row != first.per_row:
            refute("operands whose rows do not lie side by side")
    return first


def all_fixed(values: Values) -> bool:
    return all(isinstance(value, Fixed | Variable | Table) for value in values)


def broadcast(values: Values) -> Value:
    """The result of an element-wise operation."""
    rows = [value for value in values if isinstance(value, Rows)]
    fixed = [value for value in values if isinstance(value, Fixed)]
    if len(rows) + len(fixed) < len(values):
        refute("an operand that is neither made of rows nor fixed")
    if not rows:
        return _broadcast_fixed(fixed)
    first = require_aligned(rows)
    inner_shapes = [value.inner for value in rows]
    for value in fixed:
        inner_shapes.append(_inner_shape(value, first.rank))
    inner = [_broadcast_size(sizes) for sizes in zip(*inner_shapes, strict=True)]
    return Rows(tuple(inner), first.per_row)


def _broadcast_fixed(values: Sequence[Fixed]) -> Fixed:
    shapes = []
    for value in values:
        if value.shape is None or UNKNOWN in value.shape:
            return Fixed()
        shapes.append(value.shape)
    return Fixed(np.broadcast_shapes(*shapes))


def _inner_shape(value: Fixed, rank: int) -> Shape:
    """The inner dimensions of a fixed operand beside rows of this rank."""
    shape = value.shape
    if shape is None:
        refute("an operand of unknown shape")
    if len(shape) > rank or (len(shape) == rank and shape[0] != 1):
        refute("a fixed operand as long as the rows")
    if len(shape) == rank:
        return shape[1:]
    missing = rank - 1 - len(shape)
    return (1,) * missing + shape


def _broadcast_size(sizes: Sequence[int]) -> int:
    known = {size for size in sizes if size not in (1, UNKNOWN)}
    if len(known) == 1:
        return known.pop()
    if known or UNKNOWN in sizes:
        return UNKNOWN
    return 1
