"""The load: one prepared request over N keep-alive connections, sent by wrk where it is installed,
else by ourselves.

What is measured is the CPU time of the server's process, so the driver's own cost falls outside;
requests a second do depend on the driver, which is why each table names it.
"""

from __future__ import annotations

import selectors
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Load:
    requests: int
    seconds: float
    failed: int
    driver: str
    p50_s: float = 0.0

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


@dataclass(slots=True)
class _Caller:
    since: float
    buffer: bytearray = field(default_factory=bytearray)


def drive(
    port: int,
    path: str,
    body: bytes,
    *,
    connections: int,
    seconds: float,
    content_type: str = "application/json",
    host: str = "127.0.0.1",
) -> Load:
    if shutil.which("wrk"):
        return _wrk(host, port, path, body, content_type, connections=connections, seconds=seconds)
    return _sockets(host, port, path, body, content_type, connections=connections, seconds=seconds)


def _wrk(
    host: str,
    port: int,
    path: str,
    body: bytes,
    content_type: str,
    *,
    connections: int,
    seconds: float,
) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        payload = Path(folder, "body")
        payload.write_bytes(body)
        script = Path(folder, "post.lua")
        script.write_text(
            f'local f = io.open("{payload}", "rb")\n'
            'wrk.method = "POST"\nwrk.body = f:read("*a")\nwrk.headers["Content-Type"] = "'
            + content_type
            + '"\n'
            "done = function(s, l, r)\n"
            '  io.write(string.format("RESULT %d %d %d %d\\n", s.requests, s.duration, '
            "l:percentile(50),\n"
            "    s.errors.status + s.errors.read + s.errors.write + s.errors.timeout + "
            "s.errors.connect))\nend\n"
        )
        output = subprocess.run(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{max(1, round(seconds))}s",
                "-s",
                str(script),
                f"http://{host}:{port}{path}",
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds * 3 + 30,
        ).stdout
    requests, micros, p50, failed = (int(v) for v in output.split("RESULT ")[1].split()[:4])
    return Load(requests, micros / 1e6, failed, "wrk", p50 / 1e6)


def _sockets(
    host: str,
    port: int,
    path: str,
    body: bytes,
    content_type: str,
    *,
    connections: int,
    seconds: float,
) -> Load:
    """Closed loop: every connection has one request under way; an answer is counted once its body
    is whole."""
    head = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
    )
    request = "\r\n".join((*head, "", "")).encode() + body
    failed = 0
    took: list[float] = []
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            s = socket.create_connection((host, port))
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(s, selectors.EVENT_READ, _Caller(time.perf_counter()))
            s.sendall(request)
        started = time.perf_counter()
        deadline = started + seconds
        while (now := time.perf_counter()) < deadline:
            for key, _ in selector.select(timeout=deadline - now):
                s = key.fileobj
                assert isinstance(s, socket.socket)
                caller: _Caller = key.data
                buffer = caller.buffer
                buffer += s.recv(1 << 16)
                if (length := _answer_length(buffer)) and len(buffer) >= length:
                    failed += not buffer.startswith(b"HTTP/1.1 200")
                    del buffer[:length]
                    took.append(time.perf_counter() - caller.since)
                    caller.since += took[-1]
                    s.sendall(request)
        elapsed = time.perf_counter() - started
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    return Load(len(took), elapsed, failed, "sockets", statistics.median(took) if took else 0.0)


def _answer_length(buffer: bytearray) -> int:
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return 0
    for line in bytes(buffer[:end]).lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return end + 4 + int(line.split(b":")[1])
    raise RuntimeError("an answer without Content-Length")
