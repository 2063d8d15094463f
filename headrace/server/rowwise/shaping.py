"""Operations that give rows another shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.server.rowwise.graph_walk import Node, Rule
from headrace.server.rowwise.values import (
    UNKNOWN,
    Dims,
    Fixed,
    RowCount,
    Rows,
    Shape,
    Value,
    Values,
    all_fixed,
    axis,
    dims,
    number,
    product,
    refute,
    require_aligned,
    require_rows,
    vector,
)


def _reshape(node: Node, args: Values) -> Value:
    """Each row must keep its own elements."""
    x = args[0]
    shape = args[1]
    if isinstance(x, Dims):
        if len(x.items) != 1:
            return x
        is_scalar = not dims(shape)
        return Dims(x.items, is_scalar)

    if isinstance(x, Fixed):
        if not isinstance(shape, Fixed):
            refute("a fixed tensor in the shape of the rows")
        if shape.value is None:
            return Fixed()
        new_shape = tuple(vector(shape))
        new_shape = _filled_in(new_shape, x.shape)
        return Fixed(new_shape, x.value)
    return _reshaped_rows(require_rows(x), shape)


def _reshaped_rows(x: Rows, shape: Value) -> Rows:
    sizes = dims(shape)
    if not sizes:
        refute("a scalar made of rows")
    first, *rest = sizes
    inner = _inner_sizes(rest, "rows moved from the first dimension")
    if isinstance(first, RowCount):
        return _with_row_count(x, first.times, inner)

    if first != UNKNOWN or isinstance(shape, Dims):
        refute("rows may not stay apart")
    if UNKNOWN in inner or x.size == UNKNOWN:
        refute("rows may not stay apart")
    size = product(inner)
    if not size or not x.size:
        refute("rows that are cut into other pieces")
    if x.size % size:
        refute("rows that are cut into other pieces")
    per_row = x.size // size
    return Rows(tuple(inner), per_row)


def _inner_sizes(sizes: Sequence[int | RowCount], problem: str) -> list[int]:
    """The sizes, refuted with these words where the rows are among them."""
    inner = []
    for size in sizes:
        if isinstance(size, RowCount):
            refute(problem)
        inner.append(size)
    return inner


def _with_row_count(x: Rows, times: int, inner: Sequence[int]) -> Rows:
    """The runtime checks that the number of elements stays the same, so a single unknown dimension
    follows from the others."""
    if inner.count(UNKNOWN) == 1 and x.size != UNKNOWN:
        known = times * _known_product(inner)
        if known and x.size % known == 0:
            inner = _replaced(inner, x.size // known)
    return Rows(tuple(inner), times)


def _filled_in(shape: Shape, old_shape: Shape | None) -> Shape:
    """The shape with its -1 replaced, where that follows from the old shape."""
    if UNKNOWN not in shape:
        return shape
    if old_shape is None or UNKNOWN in old_shape:
        return shape
    known = _known_product(shape)
    if not known:
        return shape
    missing = product(old_shape) // known
    return tuple(_replaced(shape, missing))


def _known_product(sizes: Sequence[int]) -> int:
    known = [size for size in sizes if size != UNKNOWN]
    return product(known)


def _replaced(sizes: Sequence[int], missing: int) -> list[int]:
    """The sizes with this one in place of an unknown one."""
    replaced = []
    for size in sizes:
        if size == UNKNOWN:
            size = missing
        replaced.append(size)
    return replaced


def _expand_dims(node: Node, args: Values) -> Value:
    """A new axis behind that of the rows."""
    x = args[0]
    position = number(args[1])
    if isinstance(x, Dims) and x.is_scalar:
        return Dims(x.items)

    if isinstance(x, Fixed):
        if x.shape is None:
            return x
        if position < 0:
            position += len(x.shape) + 1
        before = x.shape[:position]
        behind = x.shape[position:]
        return Fixed((*before, 1, *behind), x.value)

    x = require_rows(x)
    position = axis(position, x.rank + 1)
    return x.with_new_axis(position, 1)


def _squeeze(node: Node, args: Values) -> Value:
    """Drops inner dimensions of 1, which must be named: else a single row would be dropped, too."""
    squeezed = node.numbers("squeeze_dims") or node.numbers("axis")
    x = args[0]
    if isinstance(x, Fixed):
        return Fixed(None, x.value)

    x = require_rows(x)
    if not squeezed:
        refute("drops the dimension of the rows when there is one")
    axes = {axis(number, x.rank) for number in squeezed}
    inner = []
    for i, size in enumerate(x.inner, start=1):
        if i not in axes:
            inner.append(size)
    return x.with_inner(inner)


def _transpose(node: Node, args: Values) -> Value:
    """Only inner dimensions may change places."""
    x = args[0]
    order = vector(args[1])
    if isinstance(x, Fixed):
        if x.shape is None:
            return Fixed()
        sizes = [x.shape[i] for i in order]
        return Fixed(tuple(sizes))

    x = require_rows(x)
    axes = list(range(x.rank))
    if order[0] != 0 or sorted(order) != axes:
        refute("moves the dimension of the rows")
    inner = [x.inner[i - 1] for i in order[1:]]
    return x.with_inner(inner)


def _concat(node: Node, args: Values) -> Value:
    """Joins along an inner dimension."""
    *parts, position = args
    if _has_dims(parts):
        return _joined_dims(parts)
    if all_fixed(parts):
        values = _known_values(parts)
        if values is None:
            return Fixed()
        return Fixed(None, np.concatenate(values))

    rows = [require_rows(part) for part in parts]
    along = axis(number(position), rows[0].rank)
    first = require_aligned(rows)
    sizes = [part.inner[along - 1] for part in rows]
    size = sum(sizes)
    if UNKNOWN in sizes:
        size = UNKNOWN
    return first.with_axis(along, size)


def _pack(node: Node, args: Values) -> Value:
    """Stacks along a new inner dimension."""
    position = node.number("axis")
    if _has_dims(args):
        return _joined_dims(args)
    if all_fixed(args):
        values = _known_values(args)
        if not values:
            return Fixed()
        return Fixed(None, np.stack(values, position))

    rows = [require_rows(arg) for arg in args]
    first = require_aligned(rows)
    position = axis(position, first.rank + 1)
    return first.with_new_axis(position, len(rows))


def _has_dims(parts: Values) -> bool:
    return any(isinstance(part, Dims) for part in parts)


def _joined_dims(parts: Values) -> Dims:
    items: list[int | RowCount] = []
    for part in parts:
        items.extend(dims(part))
    return Dims(tuple(items))


def _known_values(parts: Values) -> list[np.ndarray] | None:
    values = []
    for part in parts:
        if not isinstance(part, Fixed) or part.value is None:
            return None
        values.append(part.value)
    return values


def _unpack(node: Node, args: Values) -> Values:
    """Cuts an inner dimension into single parts."""
    x = require_rows(args[0])
    along = axis(node.number("axis"), x.rank)
    part = x.with_axis(along)
    return [part] * node.number("num")


def _split(node: Node, args: Values) -> Values:
    """Cuts an inner dimension into equal parts."""
    x = require_rows(args[1])
    along = axis(number(args[0]), x.rank)
    count = node.number("num_split")
    whole = x.inner[along - 1]
    size = UNKNOWN
    if whole != UNKNOWN:
        size = whole // count
    part = x.with_axis(along, size)
    return [part] * count


def _split_sizes(node: Node, args: Values) -> Values:
    """Cuts an inner dimension into parts of given sizes."""
    x = require_rows(args[0])
    sizes = vector(args[1])
    along = axis(number(args[2]), x.rank)
    return [x.with_axis(along, size) for size in sizes]


def _pad(node: Node, args: Values) -> Value:
    """Pads inner dimensions by fixed values."""
    x = require_rows(args[0])
    pairs = np.reshape(vector(args[1]), (-1, 2))
    paddings = pairs.tolist()
    if paddings[0] != [0, 0] or not all_fixed(args[2:]):
        refute("pads the rows")
    inner = []
    dimensions = zip(x.inner, paddings[1:], strict=True)
    for size, padding in dimensions:
        if size != UNKNOWN:
            size += sum(padding)
        inner.append(size)
    return x.with_inner(inner)


def _tile(node: Node, args: Values) -> Value:
    """Repeats inner dimensions."""
    if all_fixed(args):
        return Fixed()
    x = require_rows(args[0])
    multiples = vector(args[1])
    if multiples[0] != 1:
        refute("repeats the rows")
    inner = []
    dimensions = zip(x.inner, multiples[1:], strict=True)
    for size, multiple in dimensions:
        if size != UNKNOWN:
            size *= multiple
        inner.append(size)
    return x.with_inner(inner)


def _fill(node: Node, args: Values) -> Value:
    return _filled(args[0], args[1])


def _broadcast_to(node: Node, args: Values) -> Value:
    return _filled(args[1], args[0])


def _filled(shape: Value, value: Value) -> Value:
    """A single value for every row."""
    if not isinstance(value, Fixed):
        refute("a value that is not fixed")
    if isinstance(shape, Fixed):
        if shape.value is None:
            return Fixed()
        sizes = vector(shape)
        return Fixed(tuple(sizes))

    first, *rest = dims(shape)
    if value.shape != () or not isinstance(first, RowCount):
        refute("a shape whose rows do not come first")
    inner = _inner_sizes(rest, "a shape whose rows do not come first")
    return Rows(tuple(inner), first.times)


RULES: dict[str, Rule] = {
    "Reshape": _reshape,
    "ExpandDims": _expand_dims,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "ConcatV2": _concat,
    "Pack": _pack,
    "Unpack": _unpack,
    "Split": _split,
    "SplitV": _split_sizes,
    "Pad": _pad,
    "PadV2": _pad,
    "MirrorPad": _pad,
    "Tile": _tile,
    "Fill": _fill,
    "BroadcastTo": _broadcast_to,
}
