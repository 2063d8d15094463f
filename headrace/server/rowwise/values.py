"""What is known of a tensor before anything runs: does it follow the rows of a request, and in
which shape?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

# A dimension that is the same for all rows, but not known here.
UNKNOWN = -1

Shape = tuple[int, ...]


class NotRowWise(Exception):
    """Why rows may depend on each other, or why that cannot be ruled out."""


@dataclass(frozen=True, slots=True)
class Rows:
    """``per_row`` entries of the first dimension belong to each row, in the order of the rows;
    ``inner`` are the other dimensions. Each entry depends on its own row alone."""

    inner: Shape
    per_row: int = 1

    @property
    def rank(self) -> int:
        return len(self.inner) + 1

    @property
    def size(self) -> int:
        """Elements of a row, or UNKNOWN."""
        return (
            UNKNOWN
            if UNKNOWN in self.inner
            else self.per_row * int(np.prod(self.inner, dtype=np.int64))
        )


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same for every request. ``shape`` is None and ``value`` is None where they are not
    known."""

    shape: Shape | None = None
    value: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """A dimension of ``times`` as many entries as there are rows."""

    times: int


@dataclass(frozen=True, slots=True)
class Dims:
    """Dimensions of a tensor of Rows, as numbers in the graph; a single one may be a scalar."""

    items: tuple[int | Count, ...]
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
    """Depends on several rows: nothing may use it."""

    why: str


Value = Rows | Fixed | Dims | Variable | Table | Mixed


def refuse(why: str) -> NoReturn:
    raise NotRowWise(why)


def number(value: Value) -> int:
    """A scalar that is known."""
    numbers = vector(value)
    return numbers[0] if len(numbers) == 1 else refuse("a number that is not known at load")


def vector(value: Value) -> list[int]:
    """Numbers that are known."""
    if isinstance(value, Fixed) and value.value is not None:
        return [int(n) for n in np.ravel(value.value)]
    return refuse("numbers that are not known at load")


def dims(value: Value) -> tuple[int | Count, ...]:
    """A shape as given to an operation; UNKNOWN where it holds a free dimension or the graph's own
    -1."""
    if isinstance(value, Dims):
        return value.items
    return tuple(vector(value))


def axis(number: int, rank: int) -> int:
    """Counted from the front; never the first, which is the rows'."""
    found = number + rank if number < 0 else number
    if found == 0:
        refuse("works along the rows")
    if not 0 < found < rank:
        refuse("an axis that is not there")
    return found


def the_rows(value: Value, what: str = "an input") -> Rows:
    return value if isinstance(value, Rows) else refuse(f"{what} is not made of rows")


def all_fixed(values: Sequence[Value]) -> bool:
    return all(isinstance(value, Fixed | Variable | Table) for value in values)


def broadcast(values: Sequence[Value]) -> Value:
    """The shape of an element-wise result."""
    rows = [value for value in values if isinstance(value, Rows)]
    fixed = [value for value in values if isinstance(value, Fixed)]
    if len(rows) + len(fixed) < len(values):
        refuse("an operand that is neither made of rows nor fixed")
    if not rows:
        shapes = [value.shape for value in fixed]
        known = [shape for shape in shapes if shape is not None and UNKNOWN not in shape]
        return Fixed(np.broadcast_shapes(*known) if len(known) == len(shapes) else None)
    first = rows[0]
    if any(value.rank != first.rank or value.per_row != first.per_row for value in rows):
        refuse("operands whose rows do not lie side by side")
    inners = [value.inner for value in rows]
    for value in fixed:
        if value.shape is None:
            refuse("an operand of unknown shape")
        if len(value.shape) > first.rank or (
            len(value.shape) == first.rank and value.shape[0] != 1
        ):
            refuse("a fixed operand as long as the rows")
        inner = value.shape[1:] if len(value.shape) == first.rank else value.shape
        inners.append((1,) * (first.rank - 1 - len(inner)) + inner)
    return Rows(tuple(_widest(sizes) for sizes in zip(*inners, strict=True)), first.per_row)


def _widest(sizes: Sequence[int]) -> int:
    known = {size for size in sizes if size not in (1, UNKNOWN)}
    if len(known) == 1:
        return known.pop()
    return UNKNOWN if known or UNKNOWN in sizes else 1
