"""The operations that treat rows one by one, as used: element by element, along other axes, by
fixed weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from headrace.server.rowwise import shaping, windows
from headrace.server.rowwise.graphs import Node, Outputs, Rule
from headrace.server.rowwise.values import (
    UNKNOWN,
    Dims,
    Fixed,
    Mixed,
    Rows,
    Table,
    Value,
    Variable,
    all_fixed,
    axis,
    broadcast,
    number,
    refuse,
    the_rows,
    vector,
)

_ELEMENT_WISE = """
    Abs Acos Acosh Add AddN AddV2 AsString Asin Asinh Atan Atan2 Atanh BitwiseAnd BitwiseOr
    BitwiseXor Bucketize Cast Ceil CheckNumerics ClipByValue Cos Cosh DecodeBase64 Div DivNoNan Elu
    EncodeBase64 Equal Erf Erfc Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual Identity Inv
    Invert IsFinite IsInf IsNan LeakyRelu Less LessEqual Lgamma Log Log1p LogicalAnd LogicalNot
    LogicalOr LogicalXor Maximum Minimum Mod Mul MulNoNan Neg NotEqual OnesLike Pow PreventGradient
    RealDiv Reciprocal RegexFullMatch RegexReplace Relu Relu6 Rint Round Rsqrt Selu Sigmoid Sign Sin
    Sinh Snapshot Softplus Softsign Sqrt Square SquaredDifference StaticRegexFullMatch
    StaticRegexReplace StopGradient StringLength StringLower StringStrip StringToHashBucket
    StringToHashBucketFast StringToHashBucketStrong StringToNumber StringUpper Sub Substr Tan Tanh
    TruncateDiv TruncateMod Xdivy Xlog1py Xlogy ZerosLike
""".split()


def _element_wise(node: Node, args: Sequence[Value]) -> Value:
    if node.op in ("Identity", "Cast", "StopGradient") and not isinstance(args[0], Rows):
        return args[0]
    if any(isinstance(arg, Dims) for arg in args):
        return shaping.arithmetic(node, args)
    return broadcast(args)


def _select(node: Node, args: Sequence[Value]) -> Value:
    if node.op == "Select" and len({arg.rank for arg in args if isinstance(arg, Rows)}) > 1:
        refuse("a condition of another rank")
    return broadcast(args)


def _constant(node: Node, args: Sequence[Value]) -> Value:
    return shaping.constant(node)


def _variable(node: Node, args: Sequence[Value]) -> Value:
    return Variable(shaping.declared(node))


def _read(node: Node, args: Sequence[Value]) -> Value:
    held = args[0]
    return Fixed(held.shape) if isinstance(held, Variable) else refuse("reads what is no variable")


def _reference(node: Node, args: Sequence[Value]) -> Value:
    return Fixed(shaping.declared(node))


def _table(node: Node, args: Sequence[Value]) -> Value:
    return Table()


def _look_up(node: Node, args: Sequence[Value]) -> Value:
    table, keys, default = args
    if not isinstance(table, Table) or not isinstance(default, Fixed):
        refuse("a table that is not fixed")
    return Fixed(keys.shape) if isinstance(keys, Fixed) else the_rows(keys, "a key")


def _nothing(node: Node, args: Sequence[Value]) -> Sequence[Value]:
    return []


def _default(node: Node, args: Sequence[Value]) -> Value:
    return args[0]


def _bias(node: Node, args: Sequence[Value]) -> Value:
    x, bias = the_rows(args[0]), args[1]
    if not isinstance(bias, Fixed):
        refuse("a bias that is not fixed")
    return x


def _matmul(node: Node, args: Sequence[Value]) -> Value:
    left, right = args
    if all_fixed(args):
        return Fixed()
    x = the_rows(left, "the left side")
    if not isinstance(right, Fixed) or x.rank != 2 or node.flag("transpose_a"):
        refuse("is not rows by fixed weights")
    out = UNKNOWN if right.shape is None else right.shape[0 if node.flag("transpose_b") else 1]
    return Rows((out,), x.per_row)


def _batch_matmul(node: Node, args: Sequence[Value]) -> Value:
    left, right = args
    if all_fixed(args):
        return Fixed()
    a, b = (arg.inner if isinstance(arg, Rows) else None for arg in args)
    per_row = {arg.per_row for arg in args if isinstance(arg, Rows)}
    ranks = [arg.rank if isinstance(arg, Rows) else shaping.rank(arg) for arg in args]
    for arg, rank in zip(args, ranks, strict=True):
        if isinstance(arg, Rows) and (rank < 3 or rank < max(ranks)):
            refuse("the rows are part of the product")
        if isinstance(arg, Fixed) and rank == max(ranks) and (arg.shape or (0,))[0] != 1:
            refuse("fixed weights for each row")
    if len(per_row) > 1 or not all(isinstance(arg, Rows | Fixed) for arg in args):
        refuse("operands whose rows do not lie side by side")
    a = a if a is not None else shaping.known(left)
    b = b if b is not None else shaping.known(right)
    m = a[-1 if node.flag("adj_x") else -2]
    n = b[-2 if node.flag("adj_y") else -1]
    batch = max((inner for inner in (a, b)), key=len)[:-2] if len(a) != len(b) else a[:-2]
    if len(a) == len(b) and a[:-2] != b[:-2]:
        batch = (UNKNOWN,) * len(a[:-2])
    rows_batch = batch if max(ranks) - 3 == len(batch) else batch[1:]
    return Rows((*rows_batch, m, n), per_row.pop())


def _einsum(node: Node, args: Sequence[Value]) -> Value:
    equation = node.text("equation").replace(" ", "")
    sides, _, result = equation.partition("->")
    if not result or "." in equation:
        refuse("an equation without a plain result")
    row, per_row, sizes = result[0], 0, dict[str, int]()
    for labels, arg in zip(sides.split(","), args, strict=True):
        if isinstance(arg, Rows):
            if labels[0] != row or row in labels[1:] or per_row not in (0, arg.per_row):
                refuse("an equation that mixes rows")
            per_row = arg.per_row
            sizes |= {
                label: size
                for label, size in zip(labels[1:], arg.inner, strict=True)
                if size != UNKNOWN
            }
        elif isinstance(arg, Fixed) and row not in labels:
            sizes |= dict(zip(labels, arg.shape, strict=True)) if arg.shape else {}
        else:
            refuse("an operand that is neither made of rows nor fixed")
    if row in result[1:]:
        refuse("an equation that mixes rows")
    return (
        Rows(tuple(sizes.get(label, UNKNOWN) for label in result[1:]), per_row)
        if per_row
        else Fixed()
    )


def _last_axis(node: Node, args: Sequence[Value]) -> Value:
    if isinstance(args[0], Fixed):
        return args[0]
    x = the_rows(args[0])
    return x if x.rank >= 2 else refuse("works along the rows")


def _reduce(node: Node, args: Sequence[Value]) -> Value:
    if isinstance(args[0], Dims):
        return shaping.product(node, args)
    if all_fixed(args):
        known = isinstance(args[0], Fixed) and args[0].value is not None and node.op == "Prod"
        return (
            Fixed((), np.asarray(np.prod(vector(args[0]))))
            if known and vector(args[1]) == [0]
            else Fixed()
        )
    x = the_rows(args[0])
    axes = {axis(n, x.rank) for n in vector(args[1])}
    keeps = node.flag("keep_dims")
    inner = [
        1 if i in axes else size
        for i, size in enumerate(x.inner, start=1)
        if keeps or i not in axes
    ]
    return Rows(tuple(inner), x.per_row)


def _along(node: Node, args: Sequence[Value]) -> Value:
    """Keeps the shape: Cumsum, ReverseV2."""
    if all_fixed(args):
        return args[0]
    x = the_rows(args[0])
    for n in vector(args[1]):
        axis(n, x.rank)
    return x


def _arg_best(node: Node, args: Sequence[Value]) -> Value:
    if all_fixed(args):
        return Fixed()
    x = the_rows(args[0])
    gone = axis(number(args[1]), x.rank)
    return Rows(tuple(size for i, size in enumerate(x.inner, start=1) if i != gone), x.per_row)


def _top(node: Node, args: Sequence[Value]) -> Outputs:
    x, k = the_rows(args[0]), number(args[1])
    if x.rank < 2:
        refuse("works along the rows")
    best = Rows((*x.inner[:-1], k), x.per_row)
    return {"values": [best], "indices": [best]}


def _one_hot(node: Node, args: Sequence[Value]) -> Value:
    if all_fixed(args):
        return Fixed()
    x, depth = the_rows(args[0]), number(args[1])
    if not all_fixed(args[1:]):
        refuse("values that are not fixed")
    at = node.number("axis", -1)
    at = x.rank if at == -1 else axis(at, x.rank + 1)
    return Rows((*x.inner[: at - 1], depth, *x.inner[at - 1 :]), x.per_row)


def _histogram(node: Node, args: Sequence[Value]) -> Value:
    x, size = the_rows(args[0]), number(args[1])
    if x.rank != 2 or not isinstance(args[2], Fixed | Rows):
        refuse("counts over all rows")
    return Rows((size,), x.per_row)


def _parse_examples(node: Node, args: Sequence[Value]) -> Outputs:
    """What is dense follows its row; the rest is one list for all of them."""
    if the_rows(args[0], "the examples").inner or not all_fixed(args[1:]):
        refuse("examples that are no vector, or defaults that are not fixed")
    shapes = node.attr("dense_shapes")
    dense = [shaping.shape_of(shape) for shape in (shapes.list.shape if shapes is not None else ())]
    together = Mixed("uses the sparse features of a batch of examples")
    found: dict[str, Sequence[Value]] = {}
    for name, count in (
        ("sparse_indices", "num_sparse"),
        ("sparse_values", "num_sparse"),
        ("sparse_shapes", "num_sparse"),
    ):
        sparse = node.number(count, node.number("Nsparse"))
        found[name] = [together] * sparse
    found["dense_values"] = [
        Mixed("a feature as long as the longest of its batch")
        if shape is None or UNKNOWN in shape
        else Rows(shape)
        for shape in dense
    ]
    if node.op == "ParseExampleV2":
        ragged = (
            len(node.attr("ragged_value_types").list.type)
            if node.attr("ragged_value_types") is not None
            else 0
        )
        found |= {"ragged_values": [together] * ragged, "ragged_row_splits": [together] * ragged}
    return found


def _fixed_only(node: Node, args: Sequence[Value]) -> Value:
    return Fixed() if all_fixed(args) else refuse("made from what a request brings")


def _normalised(node: Node, args: Sequence[Value]) -> Outputs:
    if node.flag("is_training", default=True) or not all_fixed(args[1:]):
        refuse("normalises by the batch")
    rest = Mixed("uses the statistics of a batch")
    return {"y": [the_rows(args[0])], **{f"statistics_{i}": [rest] for i in range(5)}}


_Table = dict[str, Callable[[Node, Sequence[Value]], "Value | Sequence[Value] | Outputs"]]


def _rules() -> dict[str, Rule]:
    found: _Table = dict.fromkeys(_ELEMENT_WISE, _element_wise)
    found |= dict.fromkeys(("Select", "SelectV2"), _select)
    found |= {
        "Const": _constant,
        "VarHandleOp": _variable,
        "ReadVariableOp": _read,
        "NoOp": _nothing,
    }
    found |= dict.fromkeys(("Variable", "VariableV2"), _reference)
    found |= dict.fromkeys(
        ("HashTable", "HashTableV2", "MutableHashTable", "MutableHashTableV2"), _table
    )
    found |= dict.fromkeys(("LookupTableFind", "LookupTableFindV2"), _look_up)
    found |= {
        "PlaceholderWithDefault": _default,
        "BiasAdd": _bias,
        "MatMul": _matmul,
        "Einsum": _einsum,
    }
    found |= dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _batch_matmul)
    found |= dict.fromkeys(("Softmax", "LogSoftmax"), _last_axis)
    found |= dict.fromkeys(
        ("Mean", "Sum", "Prod", "Max", "Min", "All", "Any", "EuclideanNorm"), _reduce
    )
    found |= dict.fromkeys(("Cumsum", "Cumprod", "ReverseV2"), _along)
    found |= dict.fromkeys(("ArgMax", "ArgMin"), _arg_best)
    found |= {"TopKV2": _top, "OneHot": _one_hot, "DenseBincount": _histogram}
    found |= dict.fromkeys(("ParseExample", "ParseExampleV2"), _parse_examples)
    found |= dict.fromkeys(("Range", "LinSpace"), _fixed_only)
    found |= dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), _normalised)
    return {**found, **shaping.RULES, **windows.RULES}


RULES = _rules()
