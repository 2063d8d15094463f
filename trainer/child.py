"""A module of ours in a Python of its own, whose end takes nobody along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 300.0
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Ended:
    """``trouble`` is how it ended other than well, in words; None where nothing is wrong."""

    output: str
    trouble: str | None = None


def run(module: str, *arguments: str | Path) -> Ended:
    """`python -m MODULE ARGUMENTS`, its standard output kept."""
    search = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, "PYTHONPATH": search},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return Ended("", f"not done after {TIMEOUT_S:.0f} s")
    if done.returncode:
        return Ended("", f"{_ending(done.returncode)}: {_last_words(done.stderr)}")
    return Ended(done.stdout)


def _ending(returncode: int) -> str:
    if returncode > 0:
        return f"the process that ran the model ended with {returncode}"
    return f"the process that ran the model died of {signal.Signals(-returncode).name}"


def _last_words(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
