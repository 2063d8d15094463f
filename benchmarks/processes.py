"""Child processes under measurement: started, waited for, their CPU time and memory read, ended by
their id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def cpu_s(pid: int) -> float:
    """User and system CPU seconds of a whole process so far, to the nanosecond (Linux's per-process
    CPU clock)."""
    return time.clock_gettime((~pid << 3) | 2)


def rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no VmRSS for process {pid}")


@contextmanager
def child(
    arguments: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this interpreter (`python ARGUMENTS`) whose output goes to ``log``; ended when
    the block is left."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_http(
    url_port: int,
    path: str,
    *,
    process: subprocess.Popen[bytes],
    log: Path,
    timeout_s: float = 60.0,
) -> float:
    """Waits until GET ``path`` answers 200; the seconds it took."""
    started = time.perf_counter()
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    while time.perf_counter() - started < timeout_s:
        if process.poll() is not None:
            raise RuntimeError(
                f"the process ended with {process.returncode}:\n{log.read_text()[-2000:]}"
            )
        try:
            with socket.create_connection(("127.0.0.1", url_port), timeout=2) as s:
                s.sendall(request)
                if b" 200 " in s.recv(64):
                    return time.perf_counter() - started
        except OSError:
            pass
        time.sleep(0.01)
    raise RuntimeError(
        f"no 200 from {path} on port {url_port} in {timeout_s} s:\n{log.read_text()[-2000:]}"
    )
