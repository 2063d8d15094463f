"""`make bench`: every row of the table in one run, printed as it comes, then written to benchmarks/README.md."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import forwarding, table, training
from benchmarks.processes import ROOT, child
from benchmarks.stack import ensure_store, serve_arguments, wait_ports
from benchmarks.table import Row

ROUNDS = 5


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        work = Path(folder)
        store = ensure_store(work)
        rows: list[Row] = []
        for part in (forwarding.rows, start_rows, import_rows, training.rows):
            for row in part(store, work):
                rows.append(row)
                print(f"  {row.what}: {row.figure} {'(mark ' + row.mark + ')' if row.mark else ''}", flush=True)
        print("\n" + table.write(rows, driver="wrk" if shutil.which("wrk") else "sockets"))
    return 0


def start_rows(store: Path, work: Path) -> Iterator[Row]:
    """From the start of `headrace serve` to the first model status that says AVAILABLE for these three models."""
    times = []
    for i in range(ROUNDS):
        port_file = work / f"start{i}.json"
        log = work / "start.log"
        started = time.perf_counter()
        with child(serve_arguments(store, port_file), log=log) as serving:
            port = wait_ports(port_file, serving.poll)["rest"]
            for model in ("half_plus_two", "linear_model", "mnist_cnn"):
                _wait_available(port, model)
            times.append(time.perf_counter() - started)
    median = statistics.median(times)
    yield Row("headrace serve, start to three models AVAILABLE", f"{median:.2f} s", "<= 2 s", median <= 2)


def import_rows(store: Path, work: Path) -> Iterator[Row]:
    code = (
        "import time; t = time.process_time(); import gateway.app; u = time.process_time() - t\n"
        "print(u, [l for l in open('/proc/self/status') if l.startswith('VmRSS')][0].split()[1])"
    )
    cpu, memory = [], []
    for _ in range(ROUNDS):
        out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        seconds, kb = out.split()
        cpu.append(float(seconds))
        memory.append(int(kb) / 1024)
    yield Row("import gateway.app, CPU", f"{statistics.median(cpu):.2f} s", "<= 1.5 s", statistics.median(cpu) <= 1.5)
    yield Row("import gateway.app, memory", f"{statistics.median(memory):.0f} MB", "<= 100 MB", max(memory) <= 100)


def _wait_available(port: int, model: str) -> None:
    import requests

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = requests.get(f"http://127.0.0.1:{port}/v1/models/{model}", timeout=5)
        if answer.ok and "AVAILABLE" in answer.text:
            return
        time.sleep(0.005)
    raise RuntimeError(f"{model} did not become AVAILABLE")


if __name__ == "__main__":
    sys.exit(main())
