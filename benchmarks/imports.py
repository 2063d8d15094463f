"""What importing the gateway costs, each time in a process of its own."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.table import Row, at_most

ROUNDS = 5
_CODE = """
import time
started = time.process_time()
import gateway.app
cpu_s = time.process_time() - started
rss_kb = [line for line in open('/proc/self/status') if line.startswith('VmRSS')][0].split()[1]
print(cpu_s, rss_kb)
"""


def rows(store: Path, work: Path) -> Iterator[Row]:
    cpu_s = []
    rss_mb = []
    for _ in range(ROUNDS):
        output = subprocess.run(
            [sys.executable, "-c", _CODE], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        seconds, kb = output.split()
        cpu_s.append(float(seconds))
        rss_mb.append(int(kb) / 1024)
    median_s = statistics.median(cpu_s)
    yield at_most("import gateway.app, CPU", f"{median_s:.2f} s", median_s, 1.5, " s")
    median_mb = statistics.median(rss_mb)
    yield at_most("import gateway.app, memory", f"{median_mb:.0f} MB", max(rss_mb), 100, " MB")
