"""Convolutions and poolings: windows with fixed filters that slide over each row."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.server.rowwise.graph_walk import Node, Rule
from headrace.server.rowwise.values import (
    UNKNOWN,
    Fixed,
    Rows,
    Value,
    Values,
    refute,
    require_rows,
    vector,
)


def _convolution(node: Node, args: Values) -> Value:
    """A fixed filter slides over each row."""
    x = require_rows(args[0])
    kernel = args[1]
    rank = 4
    if node.op == "Conv3D":
        rank = 5
    if not isinstance(kernel, Fixed) or x.rank != rank:
        refute("is not rows by a fixed filter")
    shape = kernel.shape or (UNKNOWN,) * rank
    # The filter's last two dimensions are the channels, before them is the window.
    window = shape[:-2]
    channels = shape[-1]
    if node.op == "DepthwiseConv2dNative":
        # Each channel has filters of its own.
        in_channels = shape[-2]
        if UNKNOWN in (in_channels, channels):
            channels = UNKNOWN
        else:
            channels *= in_channels
    dilations = node.numbers("dilations", [1] * rank)
    return _slid(node, x, window, dilations, channels)


def _pool(node: Node, args: Values) -> Value:
    """A window slides over each row."""
    x = require_rows(args[0])
    rank = 4
    if node.op.endswith("3D"):
        rank = 5
    if x.rank != rank:
        refute("pools something else than rows")
    sizes = node.numbers("ksize")
    if sizes[0] != 1:
        refute("a window over several rows")
    dilations = [1] * x.rank
    if _is_channels_last(node):
        return _slid(node, x, sizes[1:-1], dilations, x.inner[-1])
    return _slid(node, x, sizes[2:], dilations, x.inner[0])


def _slid(
    node: Node,
    x: Rows,
    window: Sequence[int],
    dilations: Sequence[int],
    channels: int,
) -> Rows:
    strides = node.numbers("strides", [1] * x.rank)
    if strides[0] != 1 or dilations[0] != 1:
        refute("a window over several rows")
    is_last = _is_channels_last(node)
    if is_last:
        # Batch, height, width, channels.
        spatial = slice(1, -1)
        sizes = x.inner[:-1]
    else:
        spatial = slice(2, None)
        sizes = x.inner[1:]

    is_same = node.text("padding") == "SAME"
    paddings = _explicit_paddings(node, x.rank)
    dimensions = zip(
        sizes,
        window,
        strides[spatial],
        dilations[spatial],
        paddings[spatial],
        strict=True,
    )
    positions = []
    for size, width, stride, dilation, padding in dimensions:
        if is_same:
            count = _same_positions(size, stride)
        else:
            count = _valid_positions(size, padding, width, stride, dilation)
        positions.append(count)

    if is_last:
        return x.with_inner((*positions, channels))
    return x.with_inner((channels, *positions))


def _explicit_paddings(node: Node, rank: int) -> list[int]:
    """How many elements are added to each dimension, before and after it."""
    if node.text("padding") != "EXPLICIT":
        return [0] * rank
    numbers = node.numbers("explicit_paddings")
    if numbers[0] or numbers[1]:
        refute("pads the rows")
    paddings = []
    for before, after in zip(numbers[::2], numbers[1::2], strict=True):
        paddings.append(before + after)
    return paddings


def _same_positions(size: int, stride: int) -> int:
    """With padding SAME the window covers every element."""
    if size == UNKNOWN:
        return UNKNOWN
    return -(-size // stride)


def _valid_positions(size: int, padding: int, width: int, stride: int, dilation: int) -> int:
    if size == UNKNOWN or width == UNKNOWN:
        return UNKNOWN
    span = (width - 1) * dilation + 1
    steps = (size + padding - span) // stride
    return max(0, steps + 1)


def _is_channels_last(node: Node) -> bool:
    data_format = node.text("data_format", "NHWC")
    return not data_format.startswith("NC")


def _images(value: Value) -> Rows:
    x = require_rows(value)
    if x.rank != 4:
        refute("the rows are not images")
    return x


def _resize(node: Node, args: Values) -> Value:
    """Scales each image to a fixed size."""
    height, width = vector(args[1])
    x = _images(args[0])
    return x.with_inner((height, width, x.inner[-1]))


def _normalize(node: Node, args: Values) -> Value:
    """Normalizes over the channels of each image."""
    return _images(args[0])


def _regroup(node: Node, args: Values) -> Value:
    """Moves blocks of pixels into channels, or back, within each image."""
    x = _images(args[0])
    return x.with_inner((UNKNOWN, UNKNOWN, UNKNOWN))


RULES: dict[str, Rule] = {
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "DepthwiseConv2dNative": _convolution,
    "MaxPool": _pool,
    "AvgPool": _pool,
    "MaxPool3D": _pool,
    "AvgPool3D": _pool,
    "ResizeBilinear": _resize,
    "ResizeNearestNeighbor": _resize,
    "ResizeBicubic": _resize,
    "LRN": _normalize,
    "DepthToSpace": _regroup,
    "SpaceToDepth": _regroup,
}
