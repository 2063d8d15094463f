"""Runs a module of ours in a Python process of its own, so that its crash is not ours."""

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
    """``trouble`` says how the process failed; None when it did not."""

    output: str
    trouble: str | None = None


def run(module: str, *arguments: str | Path) -> Ended:
    """`python -m MODULE ARGUMENTS`; its standard output is returned."""
    python_path = str(_ROOT)
    if os.environ.get("PYTHONPATH"):
        python_path += os.pathsep + os.environ["PYTHONPATH"]
    try:
        process = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, "PYTHONPATH": python_path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return Ended("", f"not done after {TIMEOUT_S:.0f} s")
    if process.returncode:
        return Ended("", f"{_ending(process.returncode)}: {_last_line(process.stderr)}")
    return Ended(process.stdout)


def _ending(returncode: int) -> str:
    if returncode > 0:
        return f"the process that ran the model ended with {returncode}"
    return f"the process that ran the model died of {signal.Signals(-returncode).name}"


def _last_line(stderr: str) -> str:
    for line in reversed(stderr.splitlines()):
        if line.strip():
            return line.strip()
    return "it said nothing"
