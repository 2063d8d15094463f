"""Convolutions and poolings: windows that slide over each row, by fixed filters."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.server.rowwise.graphs import Node, Rule
from headrace.server.rowwise.values import (
    UNKNOWN,
    Fixed,
    Rows,
    Shape,
    Value,
    refuse,
    the_rows,
    vector,
)


def _convolution(node: Node, args: Sequence[Value]) -> Value:
    x, kernel = the_rows(args[0]), args[1]
    if not isinstance(kernel, Fixed) or x.rank != (5 if node.op == "Conv3D" else 4):
        refuse("is not rows by a fixed filter")
    spatial = x.rank - 2
    shape = kernel.shape or (UNKNOWN,) * x.rank
    if node.op == "DepthwiseConv2dNative":
        channels = UNKNOWN if UNKNOWN in shape[2:] else shape[2] * shape[3]
    else:
        channels = shape[-1]
    return _slid(node, x, shape[:spatial], node.numbers("dilations", [1] * x.rank), channels)


def _pool(node: Node, args: Sequence[Value]) -> Value:
    x = the_rows(args[0])
    if x.rank != (5 if node.op.endswith("3D") else 4):
        refuse("pools what is not made of rows")
    last = _is_channels_last(node)
    sizes = node.numbers("ksize")
    if sizes[0] != 1:
        refuse("a window over several rows")
    return _slid(
        node,
        x,
        tuple(sizes[1:-1] if last else sizes[2:]),
        [1] * x.rank,
        x.inner[-1] if last else x.inner[0],
    )


def _slid(node: Node, x: Rows, window: Shape, dilations: Sequence[int], channels: int) -> Rows:
    last = _is_channels_last(node)
    strides = node.numbers("strides", [1] * x.rank)
    if strides[0] != 1 or dilations[0] != 1:
        refuse("a window over several rows")
    places = slice(1, -1) if last else slice(2, None)
    sizes = x.inner[:-1] if last else x.inner[1:]
    padding = node.text("padding")
    around = node.numbers("explicit_paddings") if padding == "EXPLICIT" else [0] * (2 * x.rank)
    pairs = list(zip(around[::2], around[1::2], strict=True))
    if pairs[0] != (0, 0):
        refuse("pads the rows")
    given = zip(sizes, window, strides[places], dilations[places], pairs[places], strict=True)
    out = tuple(
        _places(size, w, s, d, sum(pad), is_same=padding == "SAME") for size, w, s, d, pad in given
    )
    return Rows((*out, channels) if last else (channels, *out), x.per_row)


def _places(
    size: int, window: int, stride: int, dilation: int, padding: int, *, is_same: bool
) -> int:
    if size == UNKNOWN or (window == UNKNOWN and not is_same):
        return UNKNOWN
    if is_same:
        return -(-size // stride)
    return max(0, (size + padding - (window - 1) * dilation - 1) // stride + 1)


def _is_channels_last(node: Node) -> bool:
    return not node.text("data_format", "NHWC").startswith("NC")


def _resized(node: Node, args: Sequence[Value]) -> Value:
    x = the_rows(args[0])
    height, width = vector(args[1])
    if x.rank != 4:
        refuse("is no picture a row")
    return Rows((height, width, x.inner[-1]), x.per_row)


def _same(node: Node, args: Sequence[Value]) -> Value:
    x = the_rows(args[0])
    return x if x.rank == 4 else refuse("is no picture a row")


def _regrouped(node: Node, args: Sequence[Value]) -> Value:
    x = _same(node, args)
    assert isinstance(x, Rows)
    return Rows((UNKNOWN,) * 3, x.per_row)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Conv2D", "Conv3D", "DepthwiseConv2dNative"), _convolution),
    **dict.fromkeys(("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D"), _pool),
    **dict.fromkeys(("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic"), _resized),
    "LRN": _same,
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _regrouped),
}
