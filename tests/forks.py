"""A process that has imported what takes long, and forks itself for each program it is given.

TensorFlow takes five seconds of CPU to import, a fork of a process that holds it none. What is
imported must not have started threads of its own: TensorFlow has none before its first operation.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

ROOT = Path(__file__).resolve().parents[1]

_LOOP = """
import ctypes, importlib, json, os, signal, sys
libc = ctypes.CDLL(None)
for name in sys.argv[1:]:
    module, _, function = name.partition(":")
    module = importlib.import_module(module)
    if function:
        getattr(module, function)()
answers = os.fdopen(os.dup(1), "w")

WRITE = os.O_WRONLY | os.O_APPEND | os.O_CREAT

def become(job):
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing outlives tests that were killed
    os.setpgid(0, 0)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environ"])
    streams = ((0, "stdin", os.O_RDONLY), (1, "stdout", WRITE), (2, "stderr", WRITE))
    for number, name, flags in streams:
        file = os.open(job[name], flags)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, closefd=False)
    sys.argv = ["-c", *job["arguments"]]
    return compile(job["program"], "<program>", "exec")

for line in iter(sys.stdin.readline, ""):
    job = json.loads(line)
    if "pid" in job:
        pid, status = os.waitpid(job["pid"], os.WNOHANG)
        print(os.waitstatus_to_exitcode(status) if pid else "", file=answers, flush=True)
        continue
    if (pid := os.fork()) == 0:
        program = become(job)
        break
    print(pid, file=answers, flush=True)
else:
    program = ""
exec(program, {"__name__": "__main__"})
"""


class ForkServer:
    """``modules`` are imported, and functions named "module:function" called, when the first
    program is started. It ends with the block, and so do those that still run."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._process: subprocess.Popen[str] | None = None
        self._running: list[Forked] = []
        self._turn = threading.Lock()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for forked in self._running:
            forked.kill()
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait(30)

    def start(
        self,
        program: str,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        stdin: Path = Path(os.devnull),
        stdout: Path = Path(os.devnull),
        stderr: Path = Path(os.devnull),
    ) -> Forked:
        """Python text, as with `python -c`."""
        files = {"stdin": str(stdin), "stdout": str(stdout), "stderr": str(stderr)}
        given = dict(os.environ if environ is None else environ)
        job = {
            "program": program,
            "arguments": arguments,
            "environ": given,
            "cwd": str(cwd),
            **files,
        }
        forked = Forked(self, int(self.ask(job)))
        self._running.append(forked)
        return forked

    @contextmanager
    def talk(self, program: str, *arguments: str) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """A program to speak with: its standard input and output. It ends when its input does."""
        with tempfile.TemporaryDirectory() as folder:
            ways = [Path(folder, name) for name in ("in", "out")]
            for way in ways:
                os.mkfifo(way)
            forked = self.start(program, *arguments, stdin=ways[0], stdout=ways[1])
            with ways[0].open("wb") as to, ways[1].open("rb") as back:
                yield to, back
            forked.wait(30)

    def run(
        self,
        program: str,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        timeout_s: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            forked = self.start(program, *arguments, environ=environ, stdout=out, stderr=err)
            try:
                code = forked.wait(timeout_s)
            finally:
                forked.kill()
            return subprocess.CompletedProcess(
                [program, *arguments], code, out.read_text(), err.read_text()
            )

    def ask(self, job: Mapping[str, Any]) -> str:
        with self._turn:
            return self._asked(job)

    def _asked(self, job: Mapping[str, Any]) -> str:
        if self._process is None:
            quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
            line = [sys.executable, "-c", _LOOP, *self._modules]
            self._process = subprocess.Popen(
                line, cwd=ROOT, env=quiet, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, f"the process that holds {self._modules} ended"
        return answer.strip()


class Forked:
    """What a test needs of subprocess.Popen."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        if self.returncode is None:
            answer = self._server.ask({"pid": self.pid})
            self.returncode = int(answer) if answer else None
        return self.returncode

    def wait(self, timeout_s: float = 300) -> int:
        end = time.monotonic() + timeout_s
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout_s)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # the number of one that ended may be another's by now
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Over when this returns."""
        self.send_signal(signal.SIGKILL)
        self.wait()


@cache
def programs() -> ForkServer:
    """For `headrace serve` and the gateway, which take half a second of CPU to import and are
    started often."""
    server = ForkServer(
        "headrace.cli",
        "headrace.server.server",
        "headrace.server.engines.capi:library",
        "gateway.process.server",
    )
    atexit.register(server.__exit__, None, None, None)
    return server


def start_module(module: str, *arguments: str, log: Path, environ: Mapping[str, str]) -> Forked:
    """`python -m MODULE ARGUMENTS`, all it says at the end of ``log``."""
    program = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return programs().start(program, *arguments, environ=environ, stdout=log, stderr=log)
