"""`make test ARGS=--costs`: what each file of tests took, in seconds of wall and of CPU.

CPU is that of the process that runs the tests and of all it started, but for those that left it for
a parent of their own (a stack brought up by `make up`). The machine's own count stands below; it
has whatever else ran there in it too.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Costs:
    def __init__(self) -> None:
        self._wall: Counter[str] = Counter()
        self._cpu: Counter[str] = Counter()
        self._machine = _machine_s()
        self._began = time.monotonic()
        self._file = ""
        self._at = (self._began, _tree_s())

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        self._charge(item.path.relative_to(item.config.rootpath).as_posix())

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._charge("")
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["costs"] = [dict(self._wall), dict(self._cpu)]

    def pytest_testnodedown(self, node: Any) -> None:
        wall, cpu = node.workeroutput["costs"]
        self._wall.update(wall)
        self._cpu.update(cpu)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section("costs")
        for file, cpu in self._cpu.most_common():
            terminalreporter.line(f"{cpu:7.1f} s CPU {self._wall[file]:7.1f} s  {file}")
        terminalreporter.line(f"{self._cpu.total():7.1f} s CPU in all")
        machine, took = _machine_s() - self._machine, time.monotonic() - self._began
        terminalreporter.line(f"{machine:7.1f} s CPU of the whole machine, in {took:.0f} s")

    def _charge(self, file: str) -> None:
        """What was spent since the last look belongs to the file before."""
        if file == self._file:
            return
        now = (time.monotonic(), _tree_s())
        if self._file:
            self._wall[self._file] += now[0] - self._at[0]
            self._cpu[self._file] += now[1] - self._at[1]
        self._file, self._at = file, now


def _tree_s() -> float:
    """CPU of this process, of those below it, and of those of them that ended."""
    spent: dict[int, float] = {}
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        spent[pid] = sum(map(int, fields[11:15])) * _TICK_S
    below = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return sum(spent[pid] for pid in below if pid in spent)


def _machine_s() -> float:
    user, nice, system, _, _, irq, soft_irq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + soft_irq) * _TICK_S
