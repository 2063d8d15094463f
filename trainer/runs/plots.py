"""Pictures of a training, as PNG: its curves, and which labels were taken for which.

Drawn with Pillow, which TensorBoard brings along anyhow: matplotlib would be eight more packages
for two pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from trainer.runs.run import Figures
from trainer.runs.score import Confusion

_WIDTH, _HEIGHT, _MARGIN = 420, 260, 56
_INK, _GRID, _PAPER = (40, 40, 40), (225, 225, 225), (255, 255, 255)
_TRAIN, _VALIDATION = (31, 119, 180), (255, 127, 14)
_CELL = 44


def curves(history: Sequence[Figures], path: Path) -> None:
    """One plot for each figure, training and validation rows in one; nothing for a training without
    epochs."""
    if not history:
        return
    names = list(dict.fromkeys(name.removeprefix("val_") for name in history[0]))
    picture = Image.new("RGB", (_WIDTH * len(names), _HEIGHT), _PAPER)
    for column, name in enumerate(names):
        _plot(ImageDraw.Draw(picture), column * _WIDTH, name, history)
    picture.save(path, optimize=True)


def confusion(found: Confusion, path: Path) -> None:
    """Rows are what a row is, columns what it was taken for; the darker, the larger a share of its
    row."""
    side = _MARGIN + 20 + _CELL * len(found.labels) + 16
    picture = Image.new("RGB", (side, side), _PAPER)
    draw, font, left = ImageDraw.Draw(picture), _font(), _MARGIN + 20
    draw.text((left, 4), "taken for", _INK, font)
    draw.text((4, left - 16), "is", _INK, font)
    for i, label in enumerate(found.labels):
        draw.text((left + (i + 0.5) * _CELL, left - 10), label, _INK, font, anchor="mm")
        draw.text((left - 8, left + (i + 0.5) * _CELL), label, _INK, font, anchor="rm")
        total = max(1, int(found.counts[i].sum()))
        for j, count in enumerate(found.counts[i]):
            share = float(count) / total
            shade = tuple(round(255 - share * (255 - c)) for c in _TRAIN)
            at = (left + j * _CELL, left + i * _CELL)
            draw.rectangle((*at, at[0] + _CELL - 2, at[1] + _CELL - 2), fill=shade)
            ink = _PAPER if share > 0.5 else _INK
            draw.text(
                (at[0] + _CELL / 2, at[1] + _CELL / 2), str(int(count)), ink, font, anchor="mm"
            )
    picture.save(path, optimize=True)


def _plot(draw: ImageDraw.ImageDraw, left: int, name: str, history: Sequence[Figures]) -> None:
    lines = {
        key: [figures[key] for figures in history if key in figures]
        for key in (name, f"val_{name}")
    }
    lines = {
        key: values
        for key, values in lines.items()
        if values and all(v == v and abs(v) < 1e30 for v in values)
    }
    low, high = (
        min(map(min, lines.values()), default=0.0),
        max(map(max, lines.values()), default=1.0),
    )
    spread = (high - low) or 1.0
    x0, x1, y0, y1 = left + _MARGIN, left + _WIDTH - 16, _HEIGHT - 36, 36
    font = _font()
    draw.text((x0, 8), name, _INK, font)
    for i in range(5):
        y = y0 + (y1 - y0) * i / 4
        draw.line((x0, y, x1, y), _GRID)
        draw.text((x0 - 6, y), f"{low + spread * i / 4:.3g}", _INK, font, anchor="rm")
    draw.text((x0, y0 + 8), "epoch 1", _INK, font)
    draw.text((x1, y0 + 8), str(len(history)), _INK, font, anchor="ra")
    for (key, values), colour in zip(lines.items(), (_TRAIN, _VALIDATION), strict=False):
        step = (x1 - x0) / max(1, len(values) - 1)
        points = [
            (x0 + step * i, y0 + (y1 - y0) * (v - low) / spread) for i, v in enumerate(values)
        ]
        draw.line(points, colour, 2) if len(points) > 1 else draw.circle(points[0], 3, colour)
        at = x1 if key.startswith("val_") else x1 - 70
        draw.text(
            (at, 8),
            "validation" if key.startswith("val_") else "training",
            colour,
            font,
            anchor="ra",
        )


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=13)
