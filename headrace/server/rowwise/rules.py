"""The rules of all operations known to treat rows one by one, in the way they are used: element by
element, along other axes, or by fixed weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headrace.server.rowwise import indexing, shape_arithmetic, shaping, windows
from headrace.server.rowwise.graph_walk import Node, Outputs, Rule
from headrace.server.rowwise.shape_arithmetic import declared_shape, known_shape, shape_of
from headrace.server.rowwise.values import (
    UNKNOWN,
    Dims,
    Fixed,
    Mixed,
    Rows,
    Shape,
    Table,
    Value,
    Values,
    Variable,
    all_fixed,
    axis,
    broadcast,
    number,
    refute,
    require_rows,
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


def _element_wise(node: Node, args: Values) -> Value:
    """Each element of the result depends on the elements at the same place."""
    if node.op in ("Identity", "Cast", "StopGradient") and not isinstance(args[0], Rows):
        return args[0]
    if any(isinstance(arg, Dims) for arg in args):
        return shape_arithmetic.multiply(node, args)
    return broadcast(args)


def _select(node: Node, args: Values) -> Value:
    """The condition chooses element by element. An old Select takes whole rows by a vector."""
    ranks = {arg.rank for arg in args if isinstance(arg, Rows)}
    if node.op == "Select" and len(ranks) > 1:
        refute("a condition of another rank")
    return broadcast(args)


def _variable(node: Node, args: Values) -> Value:
    """Requests only read variables: nothing in the graph that could write one has a rule."""
    return Variable(declared_shape(node))


def _read_variable(node: Node, args: Values) -> Value:
    """What a variable holds is the same for every request."""
    variable = args[0]
    if not isinstance(variable, Variable):
        refute("reads what is no variable")
    return Fixed(variable.shape)


def _reference_variable(node: Node, args: Values) -> Value:
    """A TF1 variable is its own value."""
    return Fixed(declared_shape(node))


def _table(node: Node, args: Values) -> Value:
    """Requests only look up keys; filling a table has no rule."""
    return Table()


def _look_up(node: Node, args: Values) -> Value:
    """Each key is looked up on its own."""
    table, keys, default = args
    if not isinstance(table, Table) or not isinstance(default, Fixed):
        refute("a table that is not fixed")
    if isinstance(keys, Fixed):
        return Fixed(keys.shape)
    return require_rows(keys, "a key")


def _nothing(node: Node, args: Values) -> Values:
    """It has no output."""
    return []


def _placeholder_with_default(node: Node, args: Values) -> Value:
    """It is not fed here, so it is its default."""
    return args[0]


def _bias_add(node: Node, args: Values) -> Value:
    """The same bias for every row."""
    x = require_rows(args[0])
    if not isinstance(args[1], Fixed):
        refute("a bias that is not fixed")
    return x


def _matmul(node: Node, args: Values) -> Value:
    """Each row of the left side by the same matrix."""
    if all_fixed(args):
        return Fixed()
    x = require_rows(args[0], "the left side")
    weights = args[1]
    if not isinstance(weights, Fixed) or x.rank != 2 or node.flag("transpose_a"):
        refute("is not rows by fixed weights")
    if weights.shape is None:
        return x.with_inner((UNKNOWN,))
    return x.with_inner((weights.shape[0 if node.flag("transpose_b") else 1],))


def _batch_matmul(node: Node, args: Values) -> Value:
    """Matrices of rows by each other, or by fixed ones that are the same for all rows."""
    if all_fixed(args):
        return Fixed()
    rank = max([shape_arithmetic.rank(arg) for arg in args])
    per_row: set[int] = set()
    for arg in args:
        if isinstance(arg, Rows):
            per_row.add(arg.per_row)
            if arg.rank < 3 or arg.rank < rank:
                refute("the rows are part of the product")
        elif not isinstance(arg, Fixed):
            refute("operands whose rows do not lie side by side")
        elif len(known_shape(arg)) == rank and known_shape(arg)[0] != 1:
            refute("fixed weights for each row")
    if len(per_row) > 1:
        refute("operands whose rows do not lie side by side")
    left, right = _matrices(args[0]), _matrices(args[1])
    height = left[-1 if node.flag("adj_x") else -2]
    width = right[-2 if node.flag("adj_y") else -1]
    batch = _batch_shape(left[:-2], right[:-2])
    # The first dimension, which is the rows', is not among the inner ones.
    if len(batch) != rank - 3:
        batch = batch[1:]
    return Rows((*batch, height, width), per_row.pop())


def _matrices(value: Value) -> Shape:
    return value.inner if isinstance(value, Rows) else known_shape(value)


def _batch_shape(left: Shape, right: Shape) -> Shape:
    if len(left) != len(right):
        return max(left, right, key=len)
    if left != right:
        return (UNKNOWN,) * len(left)
    return left


def _einsum(node: Node, args: Values) -> Value:
    equation = node.text("equation").replace(" ", "")
    operands, _, result = equation.partition("->")
    if not result or "." in equation:
        refute("an equation without a plain result")
    # The label of the rows.
    row = result[0]
    per_row = 0
    sizes: dict[str, int] = {}
    for labels, arg in zip(operands.split(","), args, strict=True):
        if isinstance(arg, Rows):
            if labels[0] != row or row in labels[1:] or per_row not in (0, arg.per_row):
                refute("an equation that mixes rows")
            per_row = arg.per_row
            for label, size in zip(labels[1:], arg.inner, strict=True):
                if size != UNKNOWN:
                    sizes[label] = size
        elif isinstance(arg, Fixed) and row not in labels:
            if arg.shape:
                sizes.update(zip(labels, arg.shape, strict=True))
        else:
            refute("an operand that is neither made of rows nor fixed")
    if row in result[1:]:
        refute("an equation that mixes rows")
    if not per_row:
        return Fixed()
    return Rows(tuple(sizes.get(label, UNKNOWN) for label in result[1:]), per_row)


def _softmax(node: Node, args: Values) -> Value:
    """Normalizes along the last axis."""
    if isinstance(args[0], Fixed):
        return args[0]
    return _not_along_rows(args[0])


def _not_along_rows(value: Value) -> Rows:
    """For operations that work along the last axis."""
    x = require_rows(value)
    if x.rank < 2:
        refute("works along the rows")
    return x


def _reduce(node: Node, args: Values) -> Value:
    """Reduces inner axes; the axis of the rows must stay."""
    if isinstance(args[0], Dims):
        return shape_arithmetic.reduce_product(node, args)
    if all_fixed(args):
        return _reduced_constant(node, args)
    x = require_rows(args[0])
    axes = {axis(number, x.rank) for number in vector(args[1])}
    inner = []
    for i, size in enumerate(x.inner, start=1):
        if i not in axes:
            inner.append(size)
        elif node.flag("keep_dims"):
            inner.append(1)
    return x.with_inner(inner)


def _reduced_constant(node: Node, args: Values) -> Fixed:
    """Of constants only products are needed: those of a shape."""
    x = args[0]
    if node.op != "Prod" or not isinstance(x, Fixed) or x.value is None or vector(args[1]) != [0]:
        return Fixed()
    return Fixed((), np.asarray(np.prod(vector(x))))


def _scan(node: Node, args: Values) -> Value:
    """Cumulates or reverses along inner axes, and keeps the shape."""
    if all_fixed(args):
        return args[0]
    x = require_rows(args[0])
    for position in vector(args[1]):
        axis(position, x.rank)
    return x


def _arg_max(node: Node, args: Values) -> Value:
    """Replaces an inner axis by the place of its largest or smallest element."""
    if all_fixed(args):
        return Fixed()
    x = require_rows(args[0])
    return x.with_axis(axis(number(args[1]), x.rank))


def _top_k(node: Node, args: Values) -> Outputs:
    """The largest elements along the last axis."""
    k = number(args[1])
    x = _not_along_rows(args[0])
    best = x.with_inner((*x.inner[:-1], k))
    return {"values": [best], "indices": [best]}


def _one_hot(node: Node, args: Values) -> Value:
    """Each number becomes a vector along a new inner axis."""
    if all_fixed(args):
        return Fixed()
    x, depth = require_rows(args[0]), number(args[1])
    if not all_fixed(args[1:]):
        refute("values that are not fixed")
    position = node.number("axis", -1)
    last = x.rank
    return x.with_new_axis(last if position == -1 else axis(position, x.rank + 1), depth)


def _bincount(node: Node, args: Values) -> Value:
    """Counts the numbers of each row."""
    x, size = require_rows(args[0]), number(args[1])
    if x.rank != 2 or not isinstance(args[2], Fixed | Rows):
        refute("counts over all rows")
    return x.with_inner((size,))


def _parse_examples(node: Node, args: Values) -> Outputs:
    """Dense features follow their row; sparse and ragged ones are one list for all rows."""
    if require_rows(args[0], "the examples").inner or not all_fixed(args[1:]):
        refute("examples that are no vector, or defaults that are not fixed")
    mixed = Mixed("uses the sparse features of a batch of examples")
    dense_shapes = node.attr("dense_shapes")
    dense: list[Value] = []
    for proto in dense_shapes.list.shape if dense_shapes is not None else ():
        shape = shape_of(proto)
        if shape is None or UNKNOWN in shape:
            dense.append(Mixed("a feature as long as the longest of its batch"))
        else:
            dense.append(Rows(shape))
    default = node.number("Nsparse")
    sparse = [mixed] * node.number("num_sparse", default)
    outputs: dict[str, Values] = {
        "sparse_indices": sparse,
        "sparse_values": sparse,
        "sparse_shapes": sparse,
        "dense_values": dense,
    }
    if node.op == "ParseExampleV2":
        ragged_types = node.attr("ragged_value_types")
        ragged = [mixed] * (len(ragged_types.list.type) if ragged_types is not None else 0)
        outputs["ragged_values"] = ragged
        outputs["ragged_row_splits"] = ragged
    return outputs


def _fixed_only(node: Node, args: Values) -> Value:
    """A sequence whose length a request decides has an unknown shape."""
    if not all_fixed(args):
        refute("depends on the request")
    return Fixed()


def _batch_norm(node: Node, args: Values) -> Outputs:
    """Normalizes by fixed statistics; in training it would take those of the batch."""
    if node.flag("is_training", default=True) or not all_fixed(args[1:]):
        refute("normalises by the batch")
    statistics = [Mixed("uses the statistics of a batch")]
    outputs: dict[str, Values] = {"y": [require_rows(args[0])]}
    for i in range(5):
        outputs[f"statistics_{i}"] = statistics
    return outputs


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_ELEMENT_WISE, _element_wise),
    "Select": _select,
    "SelectV2": _select,
    "VarHandleOp": _variable,
    "ReadVariableOp": _read_variable,
    "Variable": _reference_variable,
    "VariableV2": _reference_variable,
    "HashTable": _table,
    "HashTableV2": _table,
    "MutableHashTable": _table,
    "MutableHashTableV2": _table,
    "LookupTableFind": _look_up,
    "LookupTableFindV2": _look_up,
    "NoOp": _nothing,
    "PlaceholderWithDefault": _placeholder_with_default,
    "BiasAdd": _bias_add,
    "MatMul": _matmul,
    "BatchMatMul": _batch_matmul,
    "BatchMatMulV2": _batch_matmul,
    "BatchMatMulV3": _batch_matmul,
    "Einsum": _einsum,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Mean": _reduce,
    "Sum": _reduce,
    "Prod": _reduce,
    "Max": _reduce,
    "Min": _reduce,
    "All": _reduce,
    "Any": _reduce,
    "EuclideanNorm": _reduce,
    "Cumsum": _scan,
    "Cumprod": _scan,
    "ReverseV2": _scan,
    "ArgMax": _arg_max,
    "ArgMin": _arg_max,
    "TopKV2": _top_k,
    "OneHot": _one_hot,
    "DenseBincount": _bincount,
    "ParseExample": _parse_examples,
    "ParseExampleV2": _parse_examples,
    "Range": _fixed_only,
    "LinSpace": _fixed_only,
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    **shape_arithmetic.RULES,
    **shaping.RULES,
    **indexing.RULES,
    **windows.RULES,
}
