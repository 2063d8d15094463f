"""supervisor, which keeps serving and gateway running: its configuration, and its unix socket."""

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.local_settings import ROOT, LocalSettings
from deploy.local.venv import PYTHON
from deploy.terminal import Stop

# In bytes; Linux allows 108, macOS 104.
_MAX_SOCKET_PATH = 100
# A program that keeps ending is restarted after 1, 2, 3 ... seconds, and given up after an hour.
_RETRIES = 85
_SETTLED_S = 2.5


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    # Supervisor's word: STARTING, RUNNING, BACKOFF, EXITED, FATAL, STOPPED ...
    state: str
    pid: int
    # As in supervisor's own status.
    description: str
    # When it last ended, in seconds of the epoch; 0 = never.
    ended: int


class Supervisor:
    """The supervisor of one run folder, running or not."""

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings
        self._conf = settings.run / "supervisord.conf"
        self._pid = settings.run / "supervisord.pid"
        self._socket = _socket_path(settings.run)
        self._rpc = xmlrpc.client.ServerProxy(
            "http://supervisor", transport=_UnixTransport(self._socket), allow_none=True
        )
        self._began = 0.0
        # Only when this object started it.
        self._process: subprocess.Popen[bytes] | None = None

    def answers(self) -> bool:
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except OSError:
            return False

    def programs(self) -> list[Program]:
        return [
            Program(
                name=info["name"],
                state=info["statename"],
                pid=info["pid"],
                description=info["description"],
                ended=info["stop"],
            )
            for info in self._call("getAllProcessInfo")
        ]

    def start(self, environment: Mapping[str, str]) -> None:
        self._settings.logs.mkdir(parents=True, exist_ok=True)
        self._conf.write_text(configuration(self._settings, self._socket, self._pid))
        command = [str(PYTHON), "-m", "supervisor.supervisord", "--nodaemon", "-c", str(self._conf)]
        errors = self._settings.run / "supervisord.said"
        with errors.open("w") as file:
            # A session of its own, so that an interrupt of make does not reach it.
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
        process = self._process
        _wait_until(
            lambda: self.answers() or process.poll() is not None,
            timeout_s=30,
            message=f"supervisor does not answer; see {errors}",
        )
        if process.poll() is not None:
            raise Stop(f"supervisor did not start:\n{errors.read_text().strip()}")

    def stop(self) -> None:
        """Tell supervisor to end, and wait until it has."""
        message = f"supervisor does not end; see {self._settings.logs / 'supervisord.log'}"
        process = self._process
        if process is not None:
            # A program that is forked at this very moment would miss the signal, and be waited for.
            # supervisor forks them a second after its own start.
            time.sleep(max(0.0, self._began + _SETTLED_S - time.monotonic()))
            process.terminate()
            self._process = None
            _wait_until(lambda: process.poll() is not None, timeout_s=60, message=message)
            return
        try:
            self._call("shutdown")
        except OSError:
            return
        # It removes its pid file when the last program has ended.
        _wait_until(lambda: not self._pid.exists(), timeout_s=60, message=message)

    def _call(self, method: str) -> Any:
        try:
            return getattr(self._rpc.supervisor, method)()
        except (xmlrpc.client.Error, http.client.HTTPException) as error:
            # It is ending, or was killed in the middle of an answer.
            raise ConnectionError(str(error)) from error


def configuration(settings: LocalSettings, socket_path: Path, pid_file: Path) -> str:
    gateway = [str(PYTHON), "-m", "gateway"]
    # Without it, supervisor warns when it runs as root.
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

{_program("serving", _serve_command(settings), settings, priority=10, stop_wait_s=20)}
{_program("gateway", gateway, settings, priority=20, stop_wait_s=35)}"""


def _serve_command(settings: LocalSettings) -> list[str]:
    return [
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
        # A failed load is reported at once, not after five minutes of retries, as by default.
        "--max_num_load_retries=0",
    ]


def _program(
    name: str, command: list[str], settings: LocalSettings, *, priority: int, stop_wait_s: int
) -> str:
    # supervisor expands this path twice, and all others once.
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
    """In the run folder, or in the temporary folder if that path is too long for a socket."""
    path = run / "supervisor.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        return path
    folder = Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise Stop(
            f"{run} is too long a path for a socket, and {folder} belongs to somebody else: "
            "set HEADRACE_RUN to a shorter path."
        )
    return folder / f"{hashlib.sha256(os.fsencode(run)).hexdigest()[:16]}.sock"


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


def _wait_until(condition: Callable[[], bool], *, timeout_s: float, message: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise Stop(message)
        time.sleep(0.05)
