"""Rows and the result table; `python -m benchmarks` rewrites the one in benchmarks/README.md."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

Side = TypeVar("Side")

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
_HELD = {None: "", True: "yes", False: "**no**"}
BEGIN, END = "<!-- results -->\n", "<!-- /results -->\n"


@dataclass(frozen=True, slots=True)
class Row:
    """``mark`` is the limit of the figure, and ``met`` whether it holds; "" and None for a row
    without a limit."""

    what: str
    figure: str
    mark: str = ""
    met: bool | None = None


def at_most(what: str, figure: str, value: float, limit: float | None, unit: str = "") -> Row:
    if limit is None:
        return Row(what, figure)
    return Row(what, figure, f"<= {limit:g}{unit}", value <= limit)


def at_least(what: str, figure: str, value: float, limit: float | None, unit: str = "") -> Row:
    if limit is None:
        return Row(what, figure)
    return Row(what, figure, f">= {limit:g}{unit}", value >= limit)


def none_failed(what: str, failed: int) -> Row:
    return Row(what, str(failed), "0", failed == 0)


def turns(sides: Iterable[Side], rounds: int) -> Iterator[tuple[Side, bool]]:
    """Every side once to warm up, then all of them ``rounds`` times, with the order reversed each
    time.

    The second of each pair says whether the turn counts.
    """
    order = list(sides)
    for turn in range(rounds + 1):
        for side in order:
            yield side, turn > 0
        order.reverse()


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios pair by pair, so that a drift of the machine's speed cancels
    out."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def paired_difference(above: Sequence[float], below: Sequence[float]) -> float:
    return statistics.median(a - b for a, b in zip(above, below, strict=True))


def keep(part: str, rows: Sequence[Row], *, driver: str) -> None:
    """Save the part's rows; they replace those measured before."""
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"load by {driver}"
    )
    day = datetime.date.today().isoformat()
    RESULTS.mkdir(exist_ok=True)
    result = {"day": day, "machine": machine, "rows": [asdict(row) for row in rows]}
    (RESULTS / f"{part}.json").write_text(json.dumps(result, indent=1) + "\n")


def write(parts: Sequence[str]) -> str:
    """One table in README.md for each part that was ever measured."""
    table = "\n".join(_table(part) for part in parts if (RESULTS / f"{part}.json").exists())
    readme = HERE / "README.md"
    text = readme.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    readme.write_text(before + BEGIN + table + END + after)
    return table


def _table(part: str) -> str:
    result = json.loads((RESULTS / f"{part}.json").read_text())
    lines = [
        f"**{part}**: {result['day']}, {result['machine']}",
        "",
        "| what | figure | mark | held |",
        "|---|---|---|---|",
    ]
    for row in result["rows"]:
        held = _HELD[row["met"]]
        lines.append(f"| {row['what']} | {row['figure']} | {row['mark']} | {held} |")
    return "\n".join(lines) + "\n"
