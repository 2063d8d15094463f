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
BEGIN, END = "<!-- results -->\n", "<!-- /results -->\n"


@dataclass(frozen=True, slots=True)
class Row:
    """``mark`` is the figure this row is held to ("" for a row that only informs); ``met`` says
    whether it held."""

    what: str
    figure: str
    mark: str = ""
    met: bool | None = None


def turns(sides: Iterable[Side], rounds: int) -> Iterator[tuple[Side, bool]]:
    """Every side once, which does not count, then all of them ``rounds`` times, there and back:
    none is always the one after another. The second of each pair says whether it counts."""
    order = list(sides)
    for turn in range(rounds + 1):
        for side in order[:: -1 if turn % 2 else 1]:
            yield side, turn > 0


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios pair by pair, so that a machine whose speed drifts does not
    decide."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def paired_difference(above: Sequence[float], below: Sequence[float]) -> float:
    return statistics.median(a - b for a, b in zip(above, below, strict=True))


def keep(part: str, rows: Sequence[Row], *, driver: str) -> None:
    """The part's figures, as the last ones measured."""
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"load by {driver}"
    )
    day = datetime.date.today().isoformat()
    RESULTS.mkdir(exist_ok=True)
    kept = {"day": day, "machine": machine, "rows": [asdict(row) for row in rows]}
    (RESULTS / f"{part}.json").write_text(json.dumps(kept, indent=1) + "\n")


def write(parts: Sequence[str]) -> str:
    """One table in README.md for each part that was ever measured."""
    table = "\n".join(_table(part) for part in parts if (RESULTS / f"{part}.json").exists())
    readme = HERE / "README.md"
    text = readme.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    readme.write_text(before + BEGIN + table + END + after)
    return table


def _table(part: str) -> str:
    kept = json.loads((RESULTS / f"{part}.json").read_text())
    lines = [
        f"**{part}**: {kept['day']}, {kept['machine']}",
        "",
        "| what | figure | mark | held |",
        "|---|---|---|---|",
    ]
    for row in kept["rows"]:
        held = "" if row["met"] is None else ("yes" if row["met"] else "**no**")
        lines.append(f"| {row['what']} | {row['figure']} | {row['mark']} | {held} |")
    return "\n".join(lines) + "\n"
