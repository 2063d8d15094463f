"""The gate before the store: has an export checked by a process of its own, and tells what was found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from trainer.exports.card import Card

TIMEOUT_S = 300.0
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Check:
    """``told`` is what was seen. One that does not bind is told and does not keep an export out; one that is not
    ``forcible`` keeps it out whatever is asked for: no server could serve it."""

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
    """The checks of verify.py. A child that dies is itself a failed check: its model would take a server along."""
    command = [sys.executable, "-m", "trainer.exports.verify", str(folder.resolve())]
    search = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, "PYTHONPATH": search}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return [Check("checks", False, f"not done after {TIMEOUT_S:.0f} s", forcible=False)]
    if done.returncode:
        return [Check("checks", False, f"{_ending(done.returncode)}: {_last_words(done.stderr)}", forcible=False)]
    return [Check(**fields) for fields in json.loads(done.stdout)]


def against_live(made: Card, live: Card, *, version: int) -> list[Check]:
    """The metric beside that of the version that is live, where both were judged by the same rows."""
    now, then = made.get("metric"), live.get("metric")
    if not now or not then or now["name"] != then["name"]:
        return []
    name, told = f"{now['name']} against version {version}", f"{now['value']:.4g}, live {then['value']:.4g}"
    if _judged_by(made) != _judged_by(live):
        return [Check(name, True, f"{told}; judged by other rows, so not compared", binds=False)]
    lost = then["value"] - now["value"] if now.get("better") == "higher" else now["value"] - then["value"]
    allowed = now.get("may_lose", 0.0)
    # Beyond the last digits: 1.1 is 0.1 above 1.
    return [Check(name, lost <= allowed + 1e-9, f"{told}, may be {allowed:g} worse")]


def _judged_by(card: Card) -> tuple[object, ...]:
    """The same data, held out in the same way: a figure over five folds is not one of a single fold."""
    sums = sorted(str(source.get("sha256")) for source in card.get("data", []))
    return sums, card.get("rows", {}).get("held_out"), card.get("folds")


def _ending(returncode: int) -> str:
    if returncode > 0:
        return f"the process that ran the model ended with {returncode}"
    return f"the process that ran the model died of {signal.Signals(-returncode).name}"


def _last_words(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
