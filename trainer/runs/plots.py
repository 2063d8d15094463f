"""Plots of a training, as PNG: its curves, and its confusion matrix.

Drawn with Pillow, which TensorBoard needs anyhow: matplotlib would be eight more packages for two
pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont
from PIL.ImageDraw import Draw, ImageDraw

from trainer.runs.run import Figures
from trainer.runs.score import Confusion

# All sizes are in pixels.
_WIDTH = 420
_HEIGHT = 260
_LEFT = 56
_RIGHT = _WIDTH - 16
_TOP = 36
_BOTTOM = _HEIGHT - 36
_LABELS = _LEFT + 20
_CELL = 44

_INK = (40, 40, 40)
_GRID = (225, 225, 225)
_PAPER = (255, 255, 255)
_TRAINING_COLOUR = (31, 119, 180)
_VALIDATION_COLOUR = (255, 127, 14)
_GRID_LINES = 5
_BELOW = _BOTTOM + 8
# Between the plot and what is written beside it.
_GAP = 8
_MARGIN = 16

Point = tuple[float, float]
Colour = tuple[int, int, int]


def curves(history: Sequence[Figures], path: Path) -> None:
    """One plot for each figure, with training and validation rows in it; none without epochs."""
    if not history:
        return
    names: list[str] = []
    for figure in history[0]:
        name = figure.removeprefix("val_")
        if name not in names:
            names.append(name)

    width = _WIDTH * len(names)
    picture = Image.new("RGB", (width, _HEIGHT), _PAPER)
    draw = Draw(picture)
    for column, name in enumerate(names):
        _plot(draw, column * _WIDTH, name, history)
    picture.save(path, optimize=True)


def confusion(matrix: Confusion, path: Path) -> None:
    """Rows are the true labels, columns the predicted ones.

    The darker a cell, the larger its share of the row.
    """
    side = _LABELS + _CELL * len(matrix.labels) + _MARGIN
    picture = Image.new("RGB", (side, side), _PAPER)
    draw = Draw(picture)
    _write(draw, (_LABELS, 4), "taken for")
    _write(draw, (4, _LABELS - 16), "is")

    for row, label in enumerate(matrix.labels):
        middle = _LABELS + _CELL * (row + 0.5)
        _write(draw, (_LABELS - _GAP, middle), label, anchor="rm")
        _write(draw, (middle, _LABELS - 10), label, anchor="mm")
        top = _LABELS + _CELL * row
        _draw_row(draw, top, matrix.counts[row])
    picture.save(path, optimize=True)


def _draw_row(draw: ImageDraw, top: int, counts: np.ndarray) -> None:
    total = max(1, counts.sum())
    for column, count in enumerate(counts):
        left = _LABELS + _CELL * column
        share = float(count / total)
        _draw_cell(draw, left, top, share=share, count=int(count))


def _draw_cell(draw: ImageDraw, left: int, top: int, *, share: float, count: int) -> None:
    right = left + _CELL - 2
    bottom = top + _CELL - 2
    draw.rectangle((left, top, right, bottom), fill=_shade(share))

    colour = _INK
    if share > 0.5:
        colour = _PAPER
    middle = (left + _CELL / 2, top + _CELL / 2)
    _write(draw, middle, str(count), colour, anchor="mm")


def _shade(share: float) -> Colour:
    """From white for 0 to the colour of training for 1."""
    red, green, blue = _TRAINING_COLOUR
    return (
        _shaded(share, red),
        _shaded(share, green),
        _shaded(share, blue),
    )


def _shaded(share: float, part: int) -> int:
    return round(255 - share * (255 - part))


def _plot(draw: ImageDraw, offset: int, name: str, history: Sequence[Figures]) -> None:
    training = _values(name, history)
    validation = _values(f"val_{name}", history)
    values = [*training, *validation]
    axes = _Axes(
        left=offset + _LEFT,
        right=offset + _RIGHT,
        low=min(values, default=0.0),
        high=max(values, default=1.0),
    )

    _draw_grid(draw, axes)
    _write(draw, (axes.left, _GAP), name)
    _write(draw, (axes.left, _BELOW), "epoch 1")
    _write(draw, (axes.right, _BELOW), str(len(history)), anchor="ra")

    if training:
        legend = (axes.right - 70, _GAP)
        _write(draw, legend, "training", _TRAINING_COLOUR, anchor="ra")
        _draw_line(draw, axes, training, _TRAINING_COLOUR)
    if validation:
        legend = (axes.right, _GAP)
        _write(draw, legend, "validation", _VALIDATION_COLOUR, anchor="ra")
        _draw_line(draw, axes, validation, _VALIDATION_COLOUR)


def _values(name: str, history: Sequence[Figures]) -> list[float]:
    """A figure epoch by epoch; none at all if one of them cannot be drawn."""
    values = []
    for figures in history:
        if name not in figures:
            continue
        value = figures[name]
        if not math.isfinite(value) or abs(value) >= 1e30:
            return []
        values.append(value)
    return values


@dataclass(frozen=True, slots=True)
class _Axes:
    """Where one plot is in the picture, and the values at its bottom and top."""

    left: int
    right: int
    low: float
    high: float

    @property
    def spread(self) -> float:
        return (self.high - self.low) or 1.0

    def y(self, value: float) -> float:
        share = (value - self.low) / self.spread
        return _height(share)


def _height(share: float) -> float:
    """The y of 0 at the bottom of a plot, of 1 at its top."""
    return _BOTTOM + (_TOP - _BOTTOM) * share


def _draw_grid(draw: ImageDraw, axes: _Axes) -> None:
    for index in range(_GRID_LINES):
        share = index / (_GRID_LINES - 1)
        value = axes.low + axes.spread * share
        y = _height(share)
        draw.line((axes.left, y, axes.right, y), _GRID)
        _write(draw, (axes.left - 6, y), f"{value:.3g}", anchor="rm")


def _draw_line(draw: ImageDraw, axes: _Axes, values: Sequence[float], colour: Colour) -> None:
    step = (axes.right - axes.left) / max(1, len(values) - 1)
    points: list[Point] = []
    for index, value in enumerate(values):
        x = axes.left + step * index
        points.append((x, axes.y(value)))
    if len(points) > 1:
        draw.line(points, colour, 2)
    else:
        draw.circle(points[0], 3, colour)


def _write(
    draw: ImageDraw,
    place: Point,
    text: str,
    colour: Colour = _INK,
    *,
    anchor: str = "la",
) -> None:
    """``anchor`` is Pillow's: "la" is left and top, "rm" right and middle."""
    font = ImageFont.load_default(size=13)
    draw.text(place, text, colour, font, anchor=anchor)
