"""The gate before the store: has an export checked by a process of its own, and tells what was
found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from trainer import child
from trainer.exports.card import Card


@dataclass(frozen=True, slots=True)
class Check:
    """``told`` is what was seen. One that does not bind is told and does not keep an export out;
    one that is not ``forcible`` keeps it out whatever is asked for: no server could serve it."""

    name: str
    passed: bool
    told: str
    binds: bool = True
    forcible: bool = True

    @property
    def refuses(self) -> bool:
        return self.binds and not self.passed

    @property
    def line(self) -> str:
        verdict = "pass" if self.passed else "FAIL" if self.binds else "below"
        return f"  {verdict:5} {self.name}: {self.told}"


def check(folder: Path) -> list[Check]:
    """The checks of verify.py. A child that dies is itself a failed check: its model would take a
    server along."""
    ended = child.run("trainer.exports.verify", folder.resolve())
    if ended.trouble:
        return [Check("checks", False, ended.trouble, forcible=False)]
    return [Check(**fields) for fields in json.loads(ended.output)]


def against_live(made: Card, live: Card, *, version: int) -> list[Check]:
    """The metric beside that of the version that is live, where both were judged by the same
    rows."""
    now, then = made.get("metric"), live.get("metric")
    if not now or not then or now["name"] != then["name"]:
        return []
    name, told = (
        f"{now['name']} against version {version}",
        f"{now['value']:.4g}, live {then['value']:.4g}",
    )
    if _judged_by(made) != _judged_by(live):
        return [Check(name, True, f"{told}; judged by other rows, so not compared", binds=False)]
    lost = (
        then["value"] - now["value"]
        if now.get("better") == "higher"
        else now["value"] - then["value"]
    )
    allowed = now.get("may_lose", 0.0)
    # Beyond the last digits: 1.1 is 0.1 above 1.
    return [Check(name, lost <= allowed + 1e-9, f"{told}, may be {allowed:g} worse")]


def _judged_by(card: Card) -> tuple[object, ...]:
    """The same data, held out in the same way: a figure over five folds is not one of a single
    fold."""
    sums = sorted(str(source.get("sha256")) for source in card.get("data", []))
    return sums, card.get("rows", {}).get("held_out"), card.get("folds")
