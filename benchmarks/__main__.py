"""`make bench`: every row of the table in one run, printed as it comes, then written to benchmarks/README.md."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import table, training
from benchmarks.load import Load, drive
from benchmarks.processes import ROOT, child, cpu_s, free_port, rss_mb, wait_http
from benchmarks.stack import IMAGE_PATH, ensure_store, image_body, serve_arguments, stack, wait_ports
from benchmarks.table import Row

ROUNDS = 5
SECONDS = 3.0
CONNECTIONS = 8


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        work = Path(folder)
        store = ensure_store(work)
        rows: list[Row] = []
        for part in (gateway_rows, start_rows, import_rows, training.rows):
            for row in part(store, work):
                rows.append(row)
                print(f"  {row.what}: {row.figure} {'(mark ' + row.mark + ')' if row.mark else ''}", flush=True)
        from shutil import which

        print("\n" + table.write(rows, driver="wrk" if which("wrk") else "sockets"))
    return 0


def gateway_rows(store: Path, work: Path) -> Iterator[Row]:
    """mnist_cnn, one image as JSON: the gateway beside a bare app that reads and checks the same body."""
    body = image_body()
    bare_port = free_port()
    log = work / "bare.log"
    with child(["-m", "benchmarks.bare", str(bare_port)], log=log) as bare, stack(store, work) as real:
        wait_http(bare_port, "/", process=bare, log=log)
        floor: list[float] = []
        gateway: list[float] = []
        serving: list[float] = []
        direct: list[float] = []
        through: list[Load] = []
        straight: list[Load] = []
        for _ in range(ROUNDS):
            floor.append(
                _cpu_us(bare.pid, lambda: drive(bare_port, "/", body, connections=CONNECTIONS, seconds=SECONDS))[0]
            )
            behind = cpu_s(real.serving_pid)
            us, load = _cpu_us(
                real.gateway_pid,
                lambda: drive(real.gateway_port, IMAGE_PATH, body, connections=CONNECTIONS, seconds=SECONDS),
            )
            gateway.append(us)
            serving.append((cpu_s(real.serving_pid) - behind) * 1e6 / load.requests)
            through.append(load)
            us, load = _cpu_us(
                real.serving_pid,
                lambda: drive(real.serving_port, IMAGE_PATH, body, connections=CONNECTIONS, seconds=SECONDS),
            )
            direct.append(us)
            straight.append(load)
        ratio = table.paired_ratio(gateway, floor)
        yield Row("bare ASGI app that reads and checks the body, CPU a request", f"{statistics.median(floor):.0f} us")
        yield Row("gateway, CPU a request", f"{statistics.median(gateway):.0f} us")
        yield Row("gateway : bare app, CPU a request", f"{ratio:.2f}x", "<= 5x", ratio <= 5)
        yield Row("serving behind the gateway, CPU a request", f"{statistics.median(serving):.0f} us")
        yield Row("serving called directly, CPU a request", f"{statistics.median(direct):.0f} us")
        rates = [t.per_second / s.per_second for t, s in zip(through, straight, strict=True)]
        yield Row(
            f"gateway : serving called directly, requests a second at {CONNECTIONS} connections",
            f"{statistics.median(rates):.2f}x ({statistics.median(t.per_second for t in through):.0f}"
            f" : {statistics.median(s.per_second for s in straight):.0f})",
        )
        failed = sum(load.failed for load in through + straight)
        yield Row("answers other than 200 in all of these", str(failed), "0", failed == 0)
        yield Row("gateway, memory after the load", f"{rss_mb(real.gateway_pid):.0f} MB")
        yield Row("serving with the six models, memory after the load", f"{rss_mb(real.serving_pid):.0f} MB")


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


def _cpu_us(pid: int, run: Callable[[], Load]) -> tuple[float, Load]:
    before = cpu_s(pid)
    load = run()
    return (cpu_s(pid) - before) * 1e6 / load.requests, load


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
