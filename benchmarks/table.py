"""Rows and the result table; `python -m benchmarks` rewrites the one in benchmarks/README.md."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- results -->\n", "<!-- /results -->\n"


@dataclass(frozen=True, slots=True)
class Row:
    """``mark`` is the figure this row is held to ("" for a row that only informs); ``met`` says whether it held."""

    what: str
    figure: str
    mark: str = ""
    met: bool | None = None


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios pair by pair, so that a machine whose speed drifts does not decide."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def paired_difference(above: Sequence[float], below: Sequence[float]) -> float:
    return statistics.median(a - b for a, b in zip(above, below, strict=True))


def write(rows: Sequence[Row], *, driver: str) -> str:
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load by {driver}"
    day = datetime.date.today().isoformat()
    lines = [f"{day}, {machine}", "", "| what | figure | mark | held |", "|---|---|---|---|"]
    for row in rows:
        held = "" if row.met is None else ("yes" if row.met else "**no**")
        lines.append(f"| {row.what} | {row.figure} | {row.mark} | {held} |")
    table = "\n".join(lines) + "\n"
    readme = HERE / "README.md"
    text = readme.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    readme.write_text(before + BEGIN + table + END + after)
    results = HERE / "results" / f"{day}.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps({"machine": machine, "rows": [asdict(r) for r in rows]}, indent=1) + "\n")
    return table
