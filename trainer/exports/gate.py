"""The gate before the store: the checks that an export must pass to be published.

verify.py runs most of them, in a process of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from headrace.store.card import Card
from trainer import child

# Tells 1.1 - 1 from 0.1, whose last digits differ.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the gate, and ``detail``: what was seen."""

    name: str
    passed: bool
    detail: str
    # One that does not bind is reported and keeps no export out.
    binds: bool = True
    # One that is not forcible keeps an export out even with --force: no server could serve it.
    forcible: bool = True

    @property
    def refuses(self) -> bool:
        return self.binds and not self.passed

    @property
    def line(self) -> str:
        return f"  {self._verdict:5} {self.name}: {self.detail}"

    @property
    def _verdict(self) -> str:
        if self.passed:
            return "pass"
        return "FAIL" if self.binds else "below"


def refusal(checks: list[Check]) -> str:
    """What the checks that refuse have to say, as one sentence."""
    return "; ".join(f"{check.name}: {check.detail}" for check in checks if check.refuses)


def check(folder: Path) -> list[Check]:
    """The checks of verify.py.

    A child that dies is itself a failed check: its model would take a server with it.
    """
    ended = child.run("trainer.exports.verify", folder.resolve())
    if ended.trouble:
        return [Check("checks", False, ended.trouble, forcible=False)]
    return [Check(**fields) for fields in json.loads(ended.output)]


def against_live(new: Card, live: Card, *, version: int) -> list[Check]:
    """Compares the metric with the live version's, if both were measured on the same rows."""
    metric = new.get("metric")
    live_metric = live.get("metric")
    if not metric or not live_metric or metric["name"] != live_metric["name"]:
        return []
    name = f"{metric['name']} against version {version}"
    figures = f"{metric['value']:.4g}, live {live_metric['value']:.4g}"
    if _measured_on(new) != _measured_on(live):
        detail = f"{figures}; judged by other rows, so not compared"
        return [Check(name, True, detail, binds=False)]
    regression = metric["value"] - live_metric["value"]
    if metric.get("better") == "higher":
        regression = -regression
    allowed = metric.get("max_regression", 0.0)
    passed = regression <= allowed + _ROUNDING
    return [Check(name, passed, f"{figures}, may be {allowed:g} worse")]


def _measured_on(card: Card) -> tuple[object, ...]:
    """The data and how it was held out: a figure over five folds is not one of a single fold."""
    sha256s = sorted(str(source.get("sha256")) for source in card.get("data", []))
    return sha256s, card.get("rows", {}).get("held_out"), card.get("folds")
