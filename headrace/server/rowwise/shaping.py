"""Operations that give rows another shape, and the arithmetic graphs do with shapes themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.protocol import tensors
from headrace.protocol.errors import HeadraceError
from headrace.server.rowwise.graphs import Node, Rule
from headrace.server.rowwise.values import (
    UNKNOWN,
    Count,
    Dims,
    Fixed,
    Rows,
    Shape,
    Value,
    Variable,
    all_fixed,
    axis,
    dims,
    number,
    refuse,
    the_rows,
    vector,
)

# Of a constant that may be a shape, an axis or a permutation.
_MOST_NUMBERS = 64


def constant(node: Node) -> Fixed:
    tensor = node.attr("value").tensor
    shape = shape_of(tensor.tensor_shape)
    size = int(np.prod(shape, dtype=np.int64)) if shape is not None else _MOST_NUMBERS + 1
    # Neither int32 nor int64.
    if tensor.dtype not in (3, 9) or size > _MOST_NUMBERS:
        return Fixed(shape)
    try:
        return Fixed(shape, tensors.from_proto(tensor))
    except HeadraceError:
        return Fixed(shape)


def declared(node: Node) -> Shape | None:
    found = node.attr("shape")
    return shape_of(found.shape) if found is not None else None


def shape_of(proto: Any) -> Shape | None:
    return None if proto.unknown_rank else tuple(int(d.size) for d in proto.dim)


def known(value: Value) -> Shape:
    if isinstance(value, Fixed) and value.shape is not None:
        return value.shape
    return refuse("an operand of unknown shape")


def rank(value: Value) -> int:
    return value.rank if isinstance(value, Rows) else len(known(value))


def arithmetic(node: Node, args: Sequence[Value]) -> Value:
    """Products of dimensions; anything else that is done with the number of rows shows in the
    answers."""
    if node.op != "Mul" or len(args) != 2:
        refuse("calculates with the number of rows")
    left, right = (dims(arg) for arg in args)
    items = tuple(_times(a, b) for a, b in zip(left, right, strict=True))
    return Dims(items, all(not isinstance(a, Dims) or a.is_scalar for a in args))


def product(node: Node, args: Sequence[Value]) -> Value:
    if node.op != "Prod" or vector(args[1]) not in ([0], [-1]):
        refuse("calculates with the number of rows")
    found: int | Count = 1
    for item in dims(args[0]):
        found = _times(found, item)
    return Dims((found,), not node.flag("keep_dims"))


def _times(a: int | Count, b: int | Count) -> int | Count:
    match a, b:
        case (Count(), Count()):
            refuse("the square of the number of rows")
        case (Count(times), int(n)) | (int(n), Count(times)):
            return Count(times * n) if n > 0 else refuse("a dimension that is not known")
        case (int(m), int(n)):
            return UNKNOWN if UNKNOWN in (m, n) else m * n
    raise AssertionError


def _shape(node: Node, args: Sequence[Value]) -> Value:
    x = args[0]
    if isinstance(x, Rows):
        return Dims((Count(x.per_row), *x.inner))
    shape = known(x)
    return Fixed((len(shape),), np.array(shape)) if UNKNOWN not in shape else Fixed((len(shape),))


def _rank(node: Node, args: Sequence[Value]) -> Value:
    return Fixed((), np.array(rank(args[0])))


def _reshape(node: Node, args: Sequence[Value]) -> Value:
    x, wanted = args[0], args[1]
    if isinstance(x, Dims):
        return Dims(x.items, not dims(wanted)) if len(x.items) == 1 else x
    if isinstance(x, Fixed):
        if isinstance(wanted, Fixed) and wanted.value is not None:
            return Fixed(_filled(tuple(vector(wanted)), x.shape), x.value)
        return (
            Fixed()
            if isinstance(wanted, Fixed)
            else refuse("a fixed tensor in the shape of the rows")
        )
    x = the_rows(x)
    shape = dims(wanted)
    if not shape:
        refuse("a scalar made of rows")
    first, rest = shape[0], shape[1:]
    if any(isinstance(item, Count) for item in rest):
        refuse("rows moved from the first dimension")
    inner = tuple(item for item in rest if isinstance(item, int))
    if isinstance(first, Count):
        return _to_count(x, first.times, inner)
    if first != UNKNOWN or isinstance(wanted, Dims) or UNKNOWN in inner or x.size == UNKNOWN:
        refuse("it cannot be seen that rows stay apart")
    size = int(np.prod(inner, dtype=np.int64))
    if not size or x.size % size or not x.size:
        refuse("rows that are cut into other pieces")
    return Rows(inner, x.size // size)


def _to_count(x: Rows, times: int, inner: Shape) -> Rows:
    """The runtime holds the product of all dimensions to be the same, so what is left out
    follows."""
    if inner.count(UNKNOWN) == 1 and x.size != UNKNOWN:
        rest = times * int(np.prod([size for size in inner if size != UNKNOWN], dtype=np.int64))
        if rest and x.size % rest == 0:
            inner = tuple(x.size // rest if size == UNKNOWN else size for size in inner)
    return Rows(inner, times)


def _filled(shape: Shape, of: Shape | None) -> Shape:
    if UNKNOWN not in shape or of is None or UNKNOWN in of:
        return shape
    rest = int(np.prod([size for size in shape if size != UNKNOWN], dtype=np.int64))
    whole = int(np.prod(of, dtype=np.int64))
    return tuple(whole // rest if size == UNKNOWN and rest else size for size in shape)


def _expand(node: Node, args: Sequence[Value]) -> Value:
    x, at = args[0], number(args[1])
    if isinstance(x, Dims) and x.is_scalar:
        return Dims(x.items)
    if isinstance(x, Fixed):
        if x.shape is None:
            return x
        at = at + len(x.shape) + 1 if at < 0 else at
        return Fixed((*x.shape[:at], 1, *x.shape[at:]), x.value)
    x = the_rows(x)
    at = axis(at, x.rank + 1)
    return Rows((*x.inner[: at - 1], 1, *x.inner[at - 1 :]), x.per_row)


def _squeeze(node: Node, args: Sequence[Value]) -> Value:
    gone = node.numbers("squeeze_dims") or node.numbers("axis")
    if isinstance(args[0], Fixed):
        return Fixed(None, args[0].value)
    x = the_rows(args[0])
    axes = (
        {axis(n, x.rank) for n in gone}
        if gone
        else refuse("drops the dimension of the rows when there is one")
    )
    return Rows(tuple(size for i, size in enumerate(x.inner, start=1) if i not in axes), x.per_row)


def _transpose(node: Node, args: Sequence[Value]) -> Value:
    order = vector(args[1])
    if isinstance(args[0], Fixed):
        shape = args[0].shape
        return Fixed(tuple(shape[i] for i in order) if shape is not None else None)
    x = the_rows(args[0])
    if order[0] != 0 or sorted(order) != list(range(x.rank)):
        refuse("moves the dimension of the rows")
    return Rows(tuple(x.inner[i - 1] for i in order[1:]), x.per_row)


def _concat(node: Node, args: Sequence[Value]) -> Value:
    *parts, at = args
    if any(isinstance(part, Dims) for part in parts):
        return Dims(tuple(item for part in parts for item in dims(part)))
    if all_fixed(parts):
        values = [
            part.value for part in parts if isinstance(part, Fixed) and part.value is not None
        ]
        return Fixed(None, np.concatenate(values)) if len(values) == len(parts) else Fixed()
    rows = [the_rows(part) for part in parts]
    first = rows[0]
    along = axis(number(at), first.rank)
    if any(part.rank != first.rank or part.per_row != first.per_row for part in rows):
        refuse("operands whose rows do not lie side by side")
    sizes = [part.inner[along - 1] for part in rows]
    whole = UNKNOWN if UNKNOWN in sizes else sum(sizes)
    return Rows((*first.inner[: along - 1], whole, *first.inner[along:]), first.per_row)


def _pack(node: Node, args: Sequence[Value]) -> Value:
    at = node.number("axis")
    if any(isinstance(arg, Dims) for arg in args):
        return Dims(tuple(item for arg in args for item in dims(arg)))
    if all_fixed(args):
        values = [arg.value for arg in args if isinstance(arg, Fixed) and arg.value is not None]
        return Fixed(None, np.stack(values, at)) if values and len(values) == len(args) else Fixed()
    rows = [the_rows(arg) for arg in args]
    first = rows[0]
    if any(part.rank != first.rank or part.per_row != first.per_row for part in rows):
        refuse("operands whose rows do not lie side by side")
    at = axis(at, first.rank + 1)
    return Rows((*first.inner[: at - 1], len(rows), *first.inner[at - 1 :]), first.per_row)


def _unpack(node: Node, args: Sequence[Value]) -> Sequence[Value]:
    x, count = the_rows(args[0]), node.number("num")
    at = axis(node.number("axis"), x.rank)
    return [Rows((*x.inner[: at - 1], *x.inner[at:]), x.per_row)] * count


def _split(node: Node, args: Sequence[Value]) -> Sequence[Value]:
    is_sized = node.op == "SplitV"
    x = the_rows(args[0 if is_sized else 1])
    at = axis(number(args[2 if is_sized else 0]), x.rank)
    count = node.number("num_split")
    whole = x.inner[at - 1]
    even = UNKNOWN if whole == UNKNOWN else whole // count
    sizes = vector(args[1]) if is_sized else [even] * count
    return [Rows((*x.inner[: at - 1], size, *x.inner[at:]), x.per_row) for size in sizes]


def _pad(node: Node, args: Sequence[Value]) -> Value:
    x, around = the_rows(args[0]), np.reshape(vector(args[1]), (-1, 2)).tolist()
    if around[0] != [0, 0] or not all_fixed(args[2:]):
        refuse("pads the rows")
    sizes = zip(x.inner, around[1:], strict=True)
    return Rows(
        tuple(UNKNOWN if size == UNKNOWN else size + sum(pad) for size, pad in sizes), x.per_row
    )


def _tile(node: Node, args: Sequence[Value]) -> Value:
    if all_fixed(args):
        return Fixed()
    x, (first, *times) = the_rows(args[0]), vector(args[1])
    if first != 1:
        refuse("repeats the rows")
    sizes = zip(x.inner, times, strict=True)
    return Rows(tuple(UNKNOWN if size == UNKNOWN else size * n for size, n in sizes), x.per_row)


def _fill(node: Node, args: Sequence[Value]) -> Value:
    """Fill and BroadcastTo of a single value: every row gets the same."""
    shape, value = args if node.op == "Fill" else (args[1], args[0])
    if not isinstance(value, Fixed):
        refuse("a value that is not fixed")
    if isinstance(shape, Fixed):
        return Fixed(tuple(vector(shape)) if shape.value is not None else None)
    first, *rest = dims(shape)
    if (
        value.shape != ()
        or not isinstance(first, Count)
        or any(isinstance(item, Count) for item in rest)
    ):
        refuse("a shape whose rows do not come first")
    return Rows(tuple(item for item in rest if isinstance(item, int)), first.times)


def _gather(node: Node, args: Sequence[Value]) -> Value:
    params, indices = args[0], args[1]
    at = number(args[2]) if node.op == "GatherV2" else 0
    batch = node.number("batch_dims")
    if isinstance(params, Dims):
        return _picked(params, vector(indices), known(indices) == ())
    if all_fixed(args):
        return Fixed()
    if isinstance(params, Fixed | Variable) and isinstance(indices, Rows):
        if at or batch or not params.shape:
            refuse("is not a table by row indices")
        return Rows((*indices.inner, *params.shape[1:]), indices.per_row)
    x = the_rows(params)
    if isinstance(indices, Fixed):
        at = axis(at, x.rank)
        if batch:
            refuse("fixed indices for each row")
        return Rows((*x.inner[: at - 1], *known(indices), *x.inner[at:]), x.per_row)
    i = the_rows(indices)
    at = axis(at, x.rank)
    if not 1 <= batch <= at or i.per_row != x.per_row:
        refuse("takes from other rows")
    return Rows((*x.inner[: at - 1], *i.inner[batch - 1 :], *x.inner[at:]), x.per_row)


def _gather_nd(node: Node, args: Sequence[Value]) -> Value:
    if all_fixed(args):
        return Fixed()
    params, indices = args[0], the_rows(args[1], "the indices")
    if (
        not isinstance(params, Fixed | Variable)
        or not params.shape
        or not indices.inner
        or indices.inner[-1] < 0
    ):
        refuse("is not a table by row indices")
    return Rows((*indices.inner[:-1], *params.shape[indices.inner[-1] :]), indices.per_row)


def _picked(x: Dims, places: Sequence[int], is_scalar: bool) -> Value:
    items = tuple(x.items[i] for i in places)
    if not any(isinstance(item, Count) or item == UNKNOWN for item in items):
        numbers = np.array(items)
        return Fixed((), numbers[0]) if is_scalar else Fixed(numbers.shape, numbers)
    return Dims(items, is_scalar)


def _strided(node: Node, args: Sequence[Value]) -> Value:
    cut = _cuts(node, *(vector(arg) for arg in args[1:]))
    x = args[0]
    if isinstance(x, Dims):
        (only,) = cut
        places = range(len(x.items))[only]
        return _picked(
            x, [places] if isinstance(places, int) else list(places), isinstance(places, int)
        )
    if isinstance(x, Fixed):
        return Fixed(None, x.value[tuple(cut)]) if x.value is not None else Fixed()
    x = the_rows(x)
    return Rows(_cut(x, cut), x.per_row)


def _cuts(node: Node, begin: Sequence[int], end: Sequence[int], steps: Sequence[int]) -> list[Any]:
    """As numpy would index."""
    masks = {
        name: node.number(f"{name}_mask")
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    cut: list[Any] = []
    for i, (b, e, s) in enumerate(zip(begin, end, steps, strict=True)):
        marked = {name for name, mask in masks.items() if mask >> i & 1}
        if "ellipsis" in marked:
            cut.append(Ellipsis)
        elif "new_axis" in marked:
            cut.append(None)
        elif "shrink_axis" in marked:
            cut.append(b)
        else:
            cut.append(slice(None if "begin" in marked else b, None if "end" in marked else e, s))
    return cut


def _cut(x: Rows, cut: Sequence[Any]) -> Shape:
    """The inner dimensions that are left; the rows must all be there, and first. A free one stays
    free."""
    # None: the rows.
    left: list[int | None] = [None, *x.inner]
    found: list[int | None] = []
    for i, by in enumerate(cut):
        if by is None:
            found.append(1)
        elif by is Ellipsis:
            used = len([later for later in cut[i + 1 :] if later is not None])
            keep = len(left) - used
            found, left = found + left[:keep], left[keep:]
        else:
            size = left.pop(0)
            if size is None and by != slice(None, None, 1):
                refuse("takes some of the rows")
            if isinstance(by, slice):
                found.append(
                    size if size in (None, UNKNOWN) else len(range(*by.indices(size or 0)))
                )
    found += left
    if not found or found[0] is not None:
        refuse("moves the dimension of the rows")
    return tuple(size for size in found if size is not None)


def _slice(node: Node, args: Sequence[Value]) -> Value:
    x, begin, size = args[0], vector(args[1]), vector(args[2])
    if isinstance(x, Dims):
        stop = len(x.items) if size[0] < 0 else begin[0] + size[0]
        return _picked(x, range(begin[0], stop), False)
    x = the_rows(x)
    if begin[0] != 0 or size[0] != -1:
        refuse("takes some of the rows")
    inner = [
        want if want >= 0 else (UNKNOWN if have == UNKNOWN else have - b)
        for b, want, have in zip(begin[1:], size[1:], x.inner, strict=True)
    ]
    return Rows(tuple(inner), x.per_row)


RULES: dict[str, Rule] = {
    "Shape": _shape,
    "Rank": _rank,
    "Reshape": _reshape,
    "ExpandDims": _expand,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "ConcatV2": _concat,
    "Pack": _pack,
    "Unpack": _unpack,
    "Split": _split,
    "SplitV": _split,
    "Pad": _pad,
    "PadV2": _pad,
    "MirrorPad": _pad,
    "Tile": _tile,
    "Fill": _fill,
    "BroadcastTo": _fill,
    "GatherV2": _gather,
    "Gather": _gather,
    "ResourceGather": _gather,
    "GatherNd": _gather_nd,
    "ResourceGatherNd": _gather_nd,
    "StridedSlice": _strided,
    "Slice": _slice,
}
