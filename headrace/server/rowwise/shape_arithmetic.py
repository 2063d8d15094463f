"""What graphs calculate with shapes: constants, dimensions and their products."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.protocol import dtypes, tensors
from headrace.protocol.errors import HeadraceError
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
    dims,
    product,
    refute,
    vector,
)

# A constant of more numbers is no shape, axis or permutation.
_MAX_NUMBERS = 64
_INTEGERS = (dtypes.INT32.number, dtypes.INT64.number)


def constant(node: Node, args: Values) -> Fixed:
    """Only small integers are read: nothing else is a shape, an axis or a permutation."""
    tensor = node.attr("value").tensor
    shape = shape_of(tensor.tensor_shape)
    if shape is None or product(shape) > _MAX_NUMBERS or tensor.dtype not in _INTEGERS:
        return Fixed(shape)
    try:
        return Fixed(shape, tensors.from_proto(tensor))
    except HeadraceError:
        return Fixed(shape)


def declared_shape(node: Node) -> Shape | None:
    """The shape attribute of a node, such as a variable's."""
    value = node.attr("shape")
    return None if value is None else shape_of(value.shape)


def shape_of(proto: Any) -> Shape | None:
    if proto.unknown_rank:
        return None
    return tuple(int(dim.size) for dim in proto.dim)


def known_shape(value: Value) -> Shape:
    if not isinstance(value, Fixed) or value.shape is None:
        refute("an operand of unknown shape")
    return value.shape


def rank(value: Value) -> int:
    if isinstance(value, Rows):
        return value.rank
    return len(known_shape(value))


def multiply(node: Node, args: Values) -> Value:
    """An element-wise operation on dimensions. Only their product is allowed: anything else that a
    graph calculates from the number of rows could show in its answers."""
    if node.op != "Mul" or len(args) != 2:
        refute("calculates with the number of rows")
    left, right = dims(args[0]), dims(args[1])
    items = [_times(a, b) for a, b in zip(left, right, strict=True)]
    is_scalar = all(not isinstance(arg, Dims) or arg.is_scalar for arg in args)
    return Dims(tuple(items), is_scalar)


def reduce_product(node: Node, args: Values) -> Value:
    if node.op != "Prod" or vector(args[1]) not in ([0], [-1]):
        refute("calculates with the number of rows")
    total: int | RowCount = 1
    for item in dims(args[0]):
        total = _times(total, item)
    return Dims((total,), not node.flag("keep_dims"))


def _times(a: int | RowCount, b: int | RowCount) -> int | RowCount:
    """The number of rows may be multiplied once, by a known factor."""
    if isinstance(a, RowCount) and isinstance(b, RowCount):
        refute("the square of the number of rows")
    if isinstance(a, RowCount):
        return _row_count(a, b)
    if isinstance(b, RowCount):
        return _row_count(b, a)
    if UNKNOWN in (a, b):
        return UNKNOWN
    return a * b


def _row_count(count: RowCount, factor: int | RowCount) -> RowCount:
    if not isinstance(factor, int) or factor <= 0:
        refute("a dimension that is not known")
    return RowCount(count.times * factor)


def _shape(node: Node, args: Values) -> Value:
    """Of rows it holds their number, which the graph may only use as a whole."""
    x = args[0]
    if isinstance(x, Rows):
        return Dims((RowCount(x.per_row), *x.inner))
    shape = known_shape(x)
    if UNKNOWN in shape:
        return Fixed((len(shape),))
    return Fixed((len(shape),), np.array(shape))


def _rank(node: Node, args: Values) -> Value:
    """A rank is known before the graph runs."""
    return Fixed((), np.array(rank(args[0])))


RULES: dict[str, Rule] = {"Const": constant, "Shape": _shape, "Rank": _rank}
