"""The two programs under supervisor: its configuration, and talking to it over its unix socket."""

from __future__ import annotations

import getpass
import hashlib
import http.client
import os
import shlex
import socket
import subprocess
import tempfile
import time
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.settings import ROOT, Settings
from deploy.local.venv import PYTHON
from deploy.terminal import Stop

# Bytes; the kernel's limit is 108, macOS's 104.
_LONGEST_SOCKET_PATH = 100
# A program that keeps ending is started again after 1, 2, 3 ... seconds; after an hour of that it
# is given up.
_RETRIES = 85
_SETTLED_S = 2.5


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    # Supervisor's word: STARTING, RUNNING, BACKOFF, EXITED, FATAL, STOPPED ...
    state: str
    pid: int
    # Supervisor's own description, as in its status.
    told: str
    # When it last ended, in seconds of the epoch; 0 = never.
    ended: int


class Supervisor:
    """The supervisor of one run folder, running or not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._conf = settings.run / "supervisord.conf"
        self._pid = settings.run / "supervisord.pid"
        self._socket = _socket_path(settings.run)
        self._rpc = xmlrpc.client.ServerProxy(
            "http://supervisor", transport=_UnixTransport(self._socket), allow_none=True
        )
        self._began = 0.0
        # When started by this very object.
        self._process: subprocess.Popen[bytes] | None = None

    def answers(self) -> bool:
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except OSError:
            return False

    def programs(self) -> list[Program]:
        told = self._call("getAllProcessInfo")
        return [
            Program(each["name"], each["statename"], each["pid"], each["description"], each["stop"])
            for each in told
        ]

    def start(self, environment: Mapping[str, str]) -> None:
        self._settings.logs.mkdir(parents=True, exist_ok=True)
        self._conf.write_text(configuration(self._settings, self._socket, self._pid))
        command = [str(PYTHON), "-m", "supervisor.supervisord", "--nodaemon", "-c", str(self._conf)]
        said = self._settings.run / "supervisord.said"
        with said.open("w") as file:
            # A session of its own, so that an interrupt of make does not reach it; its log is in a
            # file of its own too.
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=dict(environment),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        self._began = time.monotonic()
        ended = self._process.poll
        _wait_until(
            lambda: self.answers() or ended() is not None,
            30,
            f"supervisor does not answer; see {said}",
        )
        if ended() is not None:
            raise Stop(f"supervisor did not start:\n{said.read_text().strip()}")

    def stop(self) -> None:
        """Ask for the end and wait for it."""
        late = f"supervisor does not end; see {self._settings.logs / 'supervisord.log'}"
        if self._process is not None:
            # A program that supervisor forks in this very moment would not hear of the end, and be
            # waited for: it forks them a second after it began.
            time.sleep(max(0.0, self._began + _SETTLED_S - time.monotonic()))
            self._process.terminate()
            process, self._process = self._process, None
            _wait_until(lambda: process.poll() is not None, 60, late)
            return
        try:
            self._call("shutdown")
        except OSError:
            return
        # It takes its pid file away when the last program is gone.
        _wait_until(lambda: not self._pid.exists(), 60, late)

    def _call(self, method: str) -> Any:
        try:
            return getattr(self._rpc.supervisor, method)()
        except (xmlrpc.client.Error, http.client.HTTPException) as error:
            # Going down, or killed between two bytes: as good as no answer.
            raise ConnectionError(str(error)) from error


def configuration(settings: Settings, socket_path: Path, pid_file: Path) -> str:
    serve = [
        str(PYTHON),
        "-m",
        "headrace",
        "serve",
        f"--port={settings.serving_grpc_port}",
        f"--rest_api_port={settings.serving_rest_port}",
        f"--models_root={settings.store}",
        f"--model_config_file={settings.live_config}",
        "--model_config_file_poll_wait_seconds=1",
        "--file_system_poll_wait_seconds=1",
        # What cannot be loaded is told at once; by default it would be tried for five minutes
        # first.
        "--max_num_load_retries=0",
    ]
    gateway = [str(PYTHON), "-m", "gateway"]
    # Supervisor as root wants to be told so.
    user = f"user={getpass.getuser()}\n" if os.geteuid() == 0 else ""
    return f"""\
; Written by `make up`, read by supervisor; `make logs` and `make status` show the rest.
[supervisord]
directory={_escaped(ROOT)}
pidfile={_escaped(pid_file)}
logfile={_escaped(settings.logs / "supervisord.log")}
logfile_maxbytes=1MB
logfile_backups=2
childlogdir={_escaped(settings.logs)}
{user}
[unix_http_server]
file={_escaped(socket_path)}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{_escaped(socket_path)}

{_program("serving", serve, settings, priority=10, stop_wait_s=20)}
{_program("gateway", gateway, settings, priority=20, stop_wait_s=35)}"""


def _program(
    name: str, command: list[str], settings: Settings, *, priority: int, stop_wait_s: int
) -> str:
    # Supervisor expands this path twice, and others once.
    log = _escaped(_escaped(settings.logs / f"{name}.log"))
    return f"""\
[program:{name}]
command={_escaped(shlex.join(command))}
directory={_escaped(ROOT)}
priority={priority}
autorestart=true
startsecs=3
startretries={_RETRIES}
stopwaitsecs={stop_wait_s}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


def _escaped(value: object) -> str:
    return str(value).replace("%", "%%")


def _socket_path(run: Path) -> Path:
    """In the run folder; in the system's temporary folder where that path is too long for a
    socket."""
    path = run / "supervisor.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    mine = Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"
    mine.mkdir(mode=0o700, exist_ok=True)
    if mine.stat().st_uid != os.getuid():
        raise Stop(
            f"{run} is too long a path for a socket, and {mine} belongs to somebody else: "
            "set HEADRACE_RUN to a shorter path."
        )
    return mine / f"{hashlib.sha256(os.fsencode(run)).hexdigest()[:16]}.sock"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _UnixConnection(self._path)


def _wait_until(true: Any, seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise Stop(otherwise)
        time.sleep(0.05)
