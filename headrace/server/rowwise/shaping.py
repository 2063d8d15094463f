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
    x, shape = args[0], args[1]
    if isinstance(x, Dims):
        if len(x.items) != 1:
            return x
        return Dims(x.items, not dims(shape))
    if isinstance(x, Fixed):
        if not isinstance(shape, Fixed):
            refute("a fixed tensor in the shape of the rows")
        if shape.value is None:
            return Fixed()
        return Fixed(_filled_in(tuple(vector(shape)), x.shape), x.value)
    return _reshaped_rows(require_rows(x), shape)


def _reshaped_rows(x: Rows, shape: Value) -> Rows:
    sizes = dims(shape)
    if not sizes:
        refute("a scalar made of rows")
    first = sizes[0]
    inner = []
    for size in sizes[1:]:
        if isinstance(size, RowCount):
            refute("rows moved from the first dimension")
        inner.append(size)
    if isinstance(first, RowCount):
        return _with_row_count(x, first.times, inner)
    if first != UNKNOWN or isinstance(shape, Dims) or UNKNOWN in inner or x.size == UNKNOWN:
        refute("rows may not stay apart")
    size = product(inner)
    if not size or not x.size or x.size % size:
        refute("rows that are cut into other pieces")
    return Rows(tuple(inner), x.size // size)


def _with_row_count(x: Rows, times: int, inner: Sequence[int]) -> Rows:
    """The runtime checks that the number of elements stays the same, so a single unknown dimension
    follows from the others."""
    if inner.count(UNKNOWN) == 1 and x.size != UNKNOWN:
        known = times * product([size for size in inner if size != UNKNOWN])
        if known and x.size % known == 0:
            missing = x.size // known
            inner = [missing if size == UNKNOWN else size for size in inner]
    return Rows(tuple(inner), times)


def _filled_in(shape: Shape, old_shape: Shape | None) -> Shape:
    """The shape with its -1 replaced, where that follows from the old shape."""
    if UNKNOWN not in shape or old_shape is None or UNKNOWN in old_shape:
        return shape
    known = product([size for size in shape if size != UNKNOWN])
    if not known:
        return shape
    missing = product(old_shape) // known
    return tuple(missing if size == UNKNOWN else size for size in shape)


def _expand_dims(node: Node, args: Values) -> Value:
    """A new axis behind that of the rows."""
    x, position = args[0], number(args[1])
    if isinstance(x, Dims) and x.is_scalar:
        return Dims(x.items)
    if isinstance(x, Fixed):
        if x.shape is None:
            return x
        if position < 0:
            position += len(x.shape) + 1
        return Fixed((*x.shape[:position], 1, *x.shape[position:]), x.value)
    x = require_rows(x)
    return x.with_new_axis(axis(position, x.rank + 1), 1)


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
    return x.with_inner([size for i, size in enumerate(x.inner, start=1) if i not in axes])


def _transpose(node: Node, args: Values) -> Value:
    """Only inner dimensions may change places."""
    x, order = args[0], vector(args[1])
    if isinstance(x, Fixed):
        if x.shape is None:
            return Fixed()
        return Fixed(tuple(x.shape[i] for i in order))
    x = require_rows(x)
    if order[0] != 0 or sorted(order) != list(range(x.rank)):
        refute("moves the dimension of the rows")
    return x.with_inner([x.inner[i - 1] for i in order[1:]])


def _concat(node: Node, args: Values) -> Value:
    """Joins along an inner dimension."""
    *parts, position = args
    if any(isinstance(part, Dims) for part in parts):
        return _joined_dims(parts)
    if all_fixed(parts):
        values = _known_values(parts)
        return Fixed() if values is None else Fixed(None, np.concatenate(values))
    rows = [require_rows(part) for part in parts]
    along = axis(number(position), rows[0].rank)
    first = require_aligned(rows)
    sizes = [part.inner[along - 1] for part in rows]
    return first.with_axis(along, UNKNOWN if UNKNOWN in sizes else sum(sizes))


def _pack(node: Node, args: Values) -> Value:
    """Stacks along a new inner dimension."""
    position = node.number("axis")
    if any(isinstance(arg, Dims) for arg in args):
        return _joined_dims(args)
    if all_fixed(args):
        values = _known_values(args)
        return Fixed(None, np.stack(values, position)) if values else Fixed()
    rows = [require_rows(arg) for arg in args]
    first = require_aligned(rows)
    return first.with_new_axis(axis(position, first.rank + 1), len(rows))


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
    part = x.with_axis(axis(node.number("axis"), x.rank))
    return [part] * node.number("num")


def _split(node: Node, args: Values) -> Values:
    """Cuts an inner dimension into equal parts."""
    x = require_rows(args[1])
    along = axis(number(args[0]), x.rank)
    count = node.number("num_split")
    whole = x.inner[along - 1]
    size = UNKNOWN if whole == UNKNOWN else whole // count
    return [x.with_axis(along, size)] * count


def _split_sizes(node: Node, args: Values) -> Values:
    """Cuts an inner dimension into parts of given sizes."""
    x = require_rows(args[0])
    along = axis(number(args[2]), x.rank)
    return [x.with_axis(along, size) for size in vector(args[1])]


def _pad(node: Node, args: Values) -> Value:
    """Pads inner dimensions by fixed values."""
    x = require_rows(args[0])
    paddings = np.reshape(vector(args[1]), (-1, 2)).tolist()
    if paddings[0] != [0, 0] or not all_fixed(args[2:]):
        refute("pads the rows")
    inner = []
    for size, padding in zip(x.inner, paddings[1:], strict=True):
        inner.append(UNKNOWN if size == UNKNOWN else size + sum(padding))
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
    for size, multiple in zip(x.inner, multiples[1:], strict=True):
        inner.append(UNKNOWN if size == UNKNOWN else size * multiple)
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
        return Fixed(tuple(vector(shape)))
    first, *rest = dims(shape)
    if value.shape != () or not isinstance(first, RowCount):
        refute("a shape whose rows do not come first")
    inner = []
    for size in rest:
        if isinstance(size, RowCount):
            refute("a shape whose rows do not come first")
        inner.append(size)
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
