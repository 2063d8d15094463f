"""Operations that take parts of a tensor: gathers and slices."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

import numpy as np

from headrace.server.rowwise.graph_walk import Node, Rule
from headrace.server.rowwise.shape_arithmetic import known_shape
from headrace.server.rowwise.values import (
    UNKNOWN,
    Dims,
    Fixed,
    RowCount,
    Rows,
    Value,
    Values,
    Variable,
    all_fixed,
    axis,
    number,
    refute,
    require_rows,
    vector,
)

# A part of an index as numpy has it; None adds a dimension.
_Index = int | slice | EllipsisType | None


def _gather(node: Node, args: Values) -> Value:
    """Rows of a fixed table by indices of the request, or fixed parts of each row."""
    params = args[0]
    indices = args[1]
    position = 0
    if node.op == "GatherV2":
        position = number(args[2])
    batch_dims = node.number("batch_dims")
    if isinstance(params, Dims):
        is_scalar = known_shape(indices) == ()
        return _picked(params, vector(indices), is_scalar=is_scalar)
    if all_fixed(args):
        return Fixed()
    if isinstance(params, Fixed | Variable) and isinstance(indices, Rows):
        if position or batch_dims or not params.shape:
            refute("is not a table by row indices")
        entry = params.shape[1:]
        return indices.with_inner((*indices.inner, *entry))

    x = require_rows(params)
    if isinstance(indices, Fixed):
        position = axis(position, x.rank)
        if batch_dims:
            refute("fixed indices for each row")
        return x.with_axis(position, *known_shape(indices))

    row_indices = require_rows(indices)
    position = axis(position, x.rank)
    if not 1 <= batch_dims <= position:
        refute("takes from other rows")
    if row_indices.per_row != x.per_row:
        refute("takes from other rows")
    sizes = row_indices.inner[batch_dims - 1 :]
    return x.with_axis(position, *sizes)


def _gather_nd(node: Node, args: Values) -> Value:
    """Entries of a fixed table by indices of the request."""
    if all_fixed(args):
        return Fixed()
    params = args[0]
    indices = require_rows(args[1], "the indices")
    if not isinstance(params, Fixed | Variable) or not params.shape:
        refute("is not a table by row indices")
    if not indices.inner or indices.inner[-1] < 0:
        refute("is not a table by row indices")
    *inner, indexed = indices.inner
    entry = params.shape[indexed:]
    return indices.with_inner((*inner, *entry))


def _picked(x: Dims, positions: Sequence[int], *, is_scalar: bool) -> Value:
    """Some of the dimensions; where the number of rows is not among them, they are fixed."""
    items = [x.items[position] for position in positions]
    for item in items:
        if isinstance(item, RowCount) or item == UNKNOWN:
            return Dims(tuple(items), is_scalar)
    numbers = np.array(items)
    if is_scalar:
        return Fixed((), numbers[0])
    return Fixed(numbers.shape, numbers)


def _strided_slice(node: Node, args: Values) -> Value:
    """A part of the inner dimensions; all rows must stay."""
    x, *vectors = args
    begin, end, strides = [vector(arg) for arg in vectors]
    indices = _indices(node, begin, end, strides)
    if isinstance(x, Dims):
        return _sliced_dims(x, indices)
    if isinstance(x, Fixed):
        if x.value is None:
            return Fixed()
        part = x.value[tuple(indices)]
        return Fixed(None, part)
    return _sliced_rows(require_rows(x), indices)


def _indices(
    node: Node,
    begin: Sequence[int],
    end: Sequence[int],
    strides: Sequence[int],
) -> list[_Index]:
    """As numpy would index."""
    begin_mask = node.number("begin_mask")
    end_mask = node.number("end_mask")
    ellipsis_mask = node.number("ellipsis_mask")
    new_axis_mask = node.number("new_axis_mask")
    shrink_axis_mask = node.number("shrink_axis_mask")
    indices: list[_Index] = []
    dimensions = zip(begin, end, strides, strict=True)
    for i, (start, stop, step) in enumerate(dimensions):
        bit = 1 << i
        if ellipsis_mask & bit:
            indices.append(Ellipsis)
        elif new_axis_mask & bit:
            indices.append(None)
        elif shrink_axis_mask & bit:
            indices.append(start)
        else:
            first: int | None = start
            last: int | None = stop
            if begin_mask & bit:
                first = None
            if end_mask & bit:
                last = None
            indices.append(slice(first, last, step))
    return indices


def _sliced_dims(x: Dims, indices: Sequence[_Index]) -> Value:
    (index,) = indices
    positions = range(len(x.items))
    if isinstance(index, int):
        position = positions[index]
        return _picked(x, [position], is_scalar=True)
    if not isinstance(index, slice):
        refute("an index of a shape that is not understood")
    return _picked(x, positions[index], is_scalar=False)


def _sliced_rows(x: Rows, indices: Sequence[_Index]) -> Rows:
    """All rows must stay, and stay first. A free inner dimension stays free."""
    # The rows themselves are None among the sizes.
    remaining: list[int | None] = [None, *x.inner]
    sizes: list[int | None] = []
    for i, index in enumerate(indices):
        if index is None:
            sizes.append(1)
            continue

        if index is Ellipsis:
            later = [other for other in indices[i + 1 :] if other is not None]
            count = len(remaining) - len(later)
            sizes += remaining[:count]
            remaining = remaining[count:]
            continue

        size = remaining.pop(0)
        if size is None and index != slice(None, None, 1):
            refute("takes some of the rows")
        if isinstance(index, slice):
            sizes.append(_sliced_size(size, index))

    sizes += remaining
    if not sizes or sizes[0] is not None:
        refute("moves the dimension of the rows")
    inner = [size for size in sizes if size is not None]
    return x.with_inner(inner)


def _sliced_size(size: int | None, index: slice) -> int | None:
    if size is None or size == UNKNOWN:
        return size
    positions = range(size)
    return len(positions[index])


def _slice(node: Node, args: Values) -> Value:
    """A part of the inner dimensions; all rows must stay."""
    x = args[0]
    begin = vector(args[1])
    sizes = vector(args[2])
    if isinstance(x, Dims):
        start = begin[0]
        stop = start + sizes[0]
        if sizes[0] < 0:
            stop = len(x.items)
        return _picked(x, range(start, stop), is_scalar=False)

    x = require_rows(x)
    if begin[0] != 0 or sizes[0] != -1:
        refute("takes some of the rows")
    inner = []
    dimensions = zip(begin[1:], sizes[1:], x.inner, strict=True)
    for start, size, whole in dimensions:
        if size < 0:
            # All that follows the start.
            size = UNKNOWN
            if whole != UNKNOWN:
                size = whole - start
        inner.append(size)
    return x.with_inner(inner)


RULES: dict[str, Rule] = {
    "Gather": _gather,
    "GatherV2": _gather,
    "ResourceGather": _gather,
    "GatherNd": _gather_nd,
    "ResourceGatherNd": _gather_nd,
    "StridedSlice": _strided_slice,
    "Slice": _slice,
}
