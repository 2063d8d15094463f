"""Plots of a training, as PNG: its curves, and its confusion matrix.

Drawn with Pillow, which TensorBoard needs anyhow: matplotlib would be eight more packages for two
pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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
    draw = ImageDraw.Draw(picture)
    for column, name in enumerate(names):
        _plot(draw, column * _WIDTH, name, history)
    picture.save(path, optimize=True)


def confusion(matrix: Confusion, path: Path) -> None:
    """Rows are the true labels, columns the predicted ones.

    The darker a cell, the larger its share of the row.
    """
    side = _LABELS + _CELL * len(matrix.labels) + 16
    picture = Image.new("RGB", (side, side), _PAPER)
    draw = ImageDraw.Draw(picture)
    font = _font()
    draw.text((_LABELS, 4), "taken for", _INK, font)
    draw.text((4, _LABELS - 16), "is", _INK, font)

    for row, label in enumerate(matrix.labels):
        middle = _LABELS + _CELL * (row + 0.5)
        draw.text((_LABELS - 8, middle), label, _INK, font, anchor="rm")
        draw.text((middle, _LABELS - 10), label, _INK, font, anchor="mm")
        top = _LABELS + _CELL * row
        _draw_row(draw, top, matrix.counts[row])
    picture.save(path, optimize=True)


def _draw_row(draw: ImageDraw.ImageDraw, top: int, counts: np.ndarray) -> None:
    total = max(1, counts.sum())
    for column, count in enumerate(counts):
        left = _LABELS + _CELL * column
        share = float(count / total)
        _draw_cell(draw, left, top, share=share, count=int(count))


def _draw_cell(draw: ImageDraw.ImageDraw, left: int, top: int, *, share: float, count: int) -> None:
    right = left + _CELL - 2
    bottom = top + _CELL - 2
    draw.rectangle((left, top, right, bottom), fill=_shade(share))
    ink = _INK
    if share > 0.5:
        ink = _PAPER
    middle = (left + _CELL / 2, top + _CELL / 2)
    draw.text(middle, str(count), ink, _font(), anchor="mm")


def _shade(share: float) -> tuple[int, int, int]:
    """From white for 0 to the colour of training for 1."""
    red, green, blue = _TRAINING_COLOUR
    return (
        _shaded(share, red),
        _shaded(share, green),
        _shaded(share, blue),
    )


def _shaded(share: float, part: int) -> int:
    return round(255 - share * (255 - part))


def _plot(draw: ImageDraw.ImageDraw, offset: int, name: str, history: Sequence[Figures]) -> None:
    training = _values(name, history)
    validation = _values(f"val_{name}", history)
    values = [*training, *validation]
    low = min(values, default=0.0)
    high = max(values, default=1.0)
    left = offset + _LEFT
    right = offset + _RIGHT
    font = _font()

    draw.text((left, 8), name, _INK, font)
    _draw_grid(draw, left, right, low=low, high=high)
    below = _BOTTOM + 8
    draw.text((left, below), "epoch 1", _INK, font)
    draw.text((right, below), str(len(history)), _INK, font, anchor="ra")
    if training:
        points = _points(training, left, right, low=low, high=high)
        _draw_line(draw, points, _TRAINING_COLOUR)
        draw.text((right - 70, 8), "training", _TRAINING_COLOUR, font, anchor="ra")
    if validation:
        points = _points(validation, left, right, low=low, high=high)
        _draw_line(draw, points, _VALIDATION_COLOUR)
        draw.text((right, 8), "validation", _VALIDATION_COLOUR, font, anchor="ra")


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


def _draw_grid(
    draw: ImageDraw.ImageDraw, left: int, right: int, *, low: float, high: float
) -> None:
    spread = (high - low) or 1.0
    for index in range(_GRID_LINES):
        share = index / (_GRID_LINES - 1)
        value = low + spread * share
        y = _height(share)
        draw.line((left, y, right, y), _GRID)
        draw.text((left - 6, y), f"{value:.3g}", _INK, _font(), anchor="rm")


def _height(share: float) -> float:
    """The y of 0 at the bottom of a plot, of 1 at its top."""
    return _BOTTOM + (_TOP - _BOTTOM) * share


def _points(
    values: Sequence[float], left: int, right: int, *, low: float, high: float
) -> list[tuple[float, float]]:
    step = (right - left) / max(1, len(values) - 1)
    spread = (high - low) or 1.0
    points = []
    for index, value in enumerate(values):
        x = left + step * index
        share = (value - low) / spread
        points.append((x, _height(share)))
    return points


def _draw_line(
    draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: tuple[int, int, int]
) -> None:
    if len(points) > 1:
        draw.line(points, colour, 2)
    else:
        draw.circle(points[0], 3, colour)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=13)
