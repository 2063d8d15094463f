"""Plots of a training, as PNG: its curves, and its confusion matrix.

Drawn with Pillow, which TensorBoard needs anyhow: matplotlib would be eight more packages for two
pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from trainer.runs.run import Figures
from trainer.runs.score import Confusion

# All sizes are in pixels.
_WIDTH, _HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, _WIDTH - 16, 36, _HEIGHT - 36
_LABELS = _LEFT + 20
_CELL = 44
_INK, _GRID, _PAPER = (40, 40, 40), (225, 225, 225), (255, 255, 255)
_TRAINING_COLOUR, _VALIDATION_COLOUR = (31, 119, 180), (255, 127, 14)
_GRID_LINES = 5


def curves(history: Sequence[Figures], path: Path) -> None:
    """One plot for each figure, with training and validation rows in it; none without epochs."""
    if not history:
        return
    names = list(dict.fromkeys(name.removeprefix("val_") for name in history[0]))
    picture = Image.new("RGB", (_WIDTH * len(names), _HEIGHT), _PAPER)
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
    draw, font = ImageDraw.Draw(picture), _font()
    draw.text((_LABELS, 4), "taken for", _INK, font)
    draw.text((4, _LABELS - 16), "is", _INK, font)
    for row, label in enumerate(matrix.labels):
        middle = _LABELS + _CELL * (row + 0.5)
        draw.text((_LABELS - 8, middle), label, _INK, font, anchor="rm")
        draw.text((middle, _LABELS - 10), label, _INK, font, anchor="mm")
        for column, count in enumerate(matrix.counts[row]):
            share = count / max(1, matrix.counts[row].sum())
            left, top = _LABELS + column * _CELL, _LABELS + row * _CELL
            _draw_cell(draw, left, top, share=float(share), count=int(count))
    picture.save(path, optimize=True)


def _draw_cell(draw: ImageDraw.ImageDraw, left: int, top: int, *, share: float, count: int) -> None:
    red, green, blue = (round(255 - share * (255 - part)) for part in _TRAINING_COLOUR)
    ink = _PAPER if share > 0.5 else _INK
    middle = (left + _CELL / 2, top + _CELL / 2)
    draw.rectangle((left, top, left + _CELL - 2, top + _CELL - 2), fill=(red, green, blue))
    draw.text(middle, str(count), ink, _font(), anchor="mm")


def _plot(draw: ImageDraw.ImageDraw, offset: int, name: str, history: Sequence[Figures]) -> None:
    training = _values(name, history)
    validation = _values(f"val_{name}", history)
    low = min([*training, *validation], default=0.0)
    high = max([*training, *validation], default=1.0)
    left, right = offset + _LEFT, offset + _RIGHT
    font = _font()
    draw.text((left, 8), name, _INK, font)
    _draw_grid(draw, left, right, low=low, high=high)
    draw.text((left, _BOTTOM + 8), "epoch 1", _INK, font)
    draw.text((right, _BOTTOM + 8), str(len(history)), _INK, font, anchor="ra")
    for values, colour, legend, legend_right in (
        (training, _TRAINING_COLOUR, "training", right - 70),
        (validation, _VALIDATION_COLOUR, "validation", right),
    ):
        if values:
            points = _points(values, left, right, low=low, high=high)
            _draw_line(draw, points, colour)
            draw.text((legend_right, 8), legend, colour, font, anchor="ra")


def _values(name: str, history: Sequence[Figures]) -> list[float]:
    """A figure epoch by epoch; none at all if one of them cannot be drawn."""
    values = [figures[name] for figures in history if name in figures]
    if all(math.isfinite(value) and abs(value) < 1e30 for value in values):
        return values
    return []


def _draw_grid(
    draw: ImageDraw.ImageDraw, left: int, right: int, *, low: float, high: float
) -> None:
    spread = (high - low) or 1.0
    for index in range(_GRID_LINES):
        share = index / (_GRID_LINES - 1)
        y = _BOTTOM + (_TOP - _BOTTOM) * share
        draw.line((left, y, right, y), _GRID)
        draw.text((left - 6, y), f"{low + spread * share:.3g}", _INK, _font(), anchor="rm")


def _points(
    values: Sequence[float], left: int, right: int, *, low: float, high: float
) -> list[tuple[float, float]]:
    step = (right - left) / max(1, len(values) - 1)
    spread = (high - low) or 1.0
    points = []
    for index, value in enumerate(values):
        share = (value - low) / spread
        points.append((left + step * index, _BOTTOM + (_TOP - _BOTTOM) * share))
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
