"""Every setting of the gateway: environment name, default, unit and meaning, in one table.

Read once at start by the caller (``Settings.from_env(os.environ)``), never at import.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.upstream.address import Address
from headrace import settings
from headrace.protocol.errors import InvalidArgument
from headrace.settings import Check, require, setting

_MAX_WORKERS = 256
_PROTOCOLS = ("auto", "rest", "grpc")
_LEVELS = ("debug", "info", "warning", "error")


def _is_rest_address(text: str) -> bool:
    try:
        Address.parse(text)
    except InvalidArgument:
        return False
    return True


def _is_grpc_address(text: str) -> bool:
    if text.startswith("unix:"):
        return text.removeprefix("unix:").removeprefix("//").startswith("/")
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) <= 65535


_PORT = Check(lambda port: 0 <= port <= 65535, "a port from 0 to 65535")
_POSITIVE = Check(lambda number: number > 0, "more than 0")
_NOT_NEGATIVE = Check(lambda number: number >= 0, "0 or more")
_AT_LEAST_1 = Check(lambda number: number >= 1, "at least 1")
_AT_LEAST_MINUS_1 = Check(lambda number: number >= -1, "-1 or more")
_WORKERS = Check(lambda count: 0 <= count <= _MAX_WORKERS, f"0 to {_MAX_WORKERS}, or auto")
_PROTOCOL = Check(lambda name: name in _PROTOCOLS, "auto, rest or grpc")
_LEVEL = Check(lambda name: name in _LEVELS, "one of " + ", ".join(_LEVELS))
_PATH = Check(bool, "a path")
_REST_ADDRESS = Check(_is_rest_address, "like http://127.0.0.1:8501 or unix:/run/rest.sock")
_GRPC_ADDRESS = Check(_is_grpc_address, "like 127.0.0.1:8500 or unix:/run/grpc.sock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """HEADRACE_<FIELD IN CAPITALS> sets a field."""

    http_port: int = setting(8000, "TCP port of the REST door; 0 = any free one.", _PORT)
    grpc_port: int = setting(8001, "TCP port of the gRPC door; 0 = any free one.", _PORT)
    bind_address: str = setting(
        "127.0.0.1", "Address both doors listen on; 0.0.0.0 = every interface."
    )
    port_file: str = setting(
        "", 'File that gets {"http": n, "grpc": n} once both doors are open; empty = none.'
    )
    upstream_rest: tuple[str, ...] = setting(
        ("http://127.0.0.1:8501",),
        "The serving backend's REST port: http://HOST:PORT or unix:/PATH; comma-separated for "
        "several replicas.",
        _REST_ADDRESS,
    )
    upstream_grpc: tuple[str, ...] = setting(
        ("127.0.0.1:8500",),
        "The serving backend's gRPC port: HOST:PORT or unix:/PATH; as many as REST ports, in "
        "the same order.",
        _GRPC_ADDRESS,
    )
    upstream_connections: int = setting(
        128,
        "Most REST connections to one replica at once; further calls wait for one.",
        _AT_LEAST_1,
    )
    upstream_protocol: str = setting(
        "auto",
        "How JSON predict calls go on: rest = as they came; grpc = as tensors; auto = big "
        "ones as tensors, which costs gateway and backend together less. gRPC calls always go "
        "by gRPC.",
        _PROTOCOL,
    )
    upstream_grpc_body_bytes: int = setting(
        128 * 2**10,
        "With upstream_protocol auto, JSON bodies larger than this, in bytes, go on as "
        "tensors over gRPC.",
        _NOT_NEGATIVE,
    )
    connect_timeout_s: float = setting(
        1.0, "Seconds to wait for a connection to the backend before answering 503.", _POSITIVE
    )
    timeout_s: float = setting(
        30.0,
        "Seconds a call to the backend may take before answering 504; caps gRPC deadlines.",
        _POSITIVE,
    )
    max_body_bytes: int = setting(
        64 * 2**20,
        "Largest request body, in bytes after inflating; above it the answer is 413.",
        _AT_LEAST_1,
    )
    max_json_depth: int = setting(
        100_000,
        "Deepest nesting of a JSON body, in brackets; above it the answer is 400.",
        _AT_LEAST_1,
    )
    max_connections: int = setting(
        4096,
        "Most connections to the REST door at once; further ones are answered 503 and closed.",
        _AT_LEAST_1,
    )
    max_header_bytes: int = setting(
        128 * 2**10,
        "Largest head of a REST request, in bytes; above it the answer is 431.",
        _AT_LEAST_1,
    )
    max_headers: int = setting(
        128, "Most headers of a REST request; above it the answer is 431.", _AT_LEAST_1
    )
    max_grpc_streams: int = setting(
        65536,
        "Most calls at once on one gRPC connection; further ones wait at the caller.",
        _AT_LEAST_1,
    )
    first_byte_s: float = setting(
        60.0, "Seconds a new connection may send nothing before it is closed.", _POSITIVE
    )
    head_s: float = setting(
        10.0, "Seconds a request's head may take to arrive before the answer is 408.", _POSITIVE
    )
    body_s: float = setting(
        60.0, "Seconds a request's body may take to arrive before the answer is 408.", _POSITIVE
    )
    send_s: float = setting(
        60.0,
        "Seconds a caller may take nothing of its answer before the connection is closed.",
        _POSITIVE,
    )
    idle_s: float = setting(75.0, "Seconds a connection is kept between requests.", _POSITIVE)
    thread_body_bytes: int = setting(
        64 * 2**10,
        "Bodies larger than this, in bytes, are checked in a thread (+0.1 ms); -1 = never.",
        _AT_LEAST_MINUS_1,
    )
    model_config_file: str = setting(
        "models/multimodel.config", "The rendered model list that the backend polls too.", _PATH
    )
    lenient_models: tuple[str, ...] = setting(
        (), "Comma-separated models whose shapes are not checked; names and dtypes are."
    )
    refresh_s: float = setting(
        1.0,
        "Seconds between looks at the model list and at the versions the backend serves.",
        _POSITIVE,
    )
    probe_s: float = setting(
        0.2,
        "Seconds between questions whether the backend answers; a second where one backend is "
        "idle.",
        _POSITIVE,
    )
    probe_timeout_s: float = setting(
        0.5, "Seconds without an answer after which the backend counts as down.", _POSITIVE
    )
    workers: int = setting(
        1,
        "Processes that share the two ports; 0 or auto = one a core. Each has its own "
        "upstream_connections.",
        _WORKERS,
        words={"auto": "0"},
    )
    drain_s: float = setting(
        30.0, "Seconds that running calls get to finish after SIGTERM.", _NOT_NEGATIVE
    )
    access_log: bool = setting(True, "One line a request on stderr.")
    metrics: bool = setting(True, "Count and time requests for /metrics.")
    log_level: str = setting(
        "info", "Lowest level of what else is logged: debug, info, warning or error.", _LEVEL
    )

    @property
    def rest_body_bytes(self) -> float:
        """The largest JSON body that is forwarded as it came."""
        if self.upstream_protocol == "rest":
            return math.inf
        if self.upstream_protocol == "grpc":
            return -1
        return self.upstream_grpc_body_bytes

    @property
    def processes(self) -> int:
        """How many workers that makes on this machine."""
        return self.workers or _cores()

    def __post_init__(self) -> None:
        settings.check(self)
        count = len(self.upstream_rest)
        require(count > 0, "upstream_rest", "", "at least one address")
        require(
            len(self.upstream_grpc) == count,
            "upstream_grpc",
            ",".join(self.upstream_grpc),
            f"{count}, one a REST port",
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """InvalidArgument for a name that no part reads, or a value that does not fit."""
        return settings.from_environment(cls, environ)


def describe() -> str:
    """The whole table as text, for --help."""
    lines = []
    for row in settings.table(Settings):
        lines.append(f"  {row.variable} ({row.unit}; default {row.default})\n      {row.help}")
    return "\n".join(lines)


def reference() -> str:
    """The whole table as docs/reference/settings.md."""
    page = _PAGE
    for row in settings.table(Settings):
        page += f"| `{row.variable}` | {row.unit} | `{row.default}` | {row.help} |\n"
    return page


_PAGE = """\
# Settings of the gateway

<!-- Made from gateway/settings.py: python -m gateway --settings > docs/reference/settings.md -->

Each is an environment variable, read once at the start; `make up HEADRACE_TIMEOUT_S=5` sets one
too. A value that does not fit, or a name that begins with `HEADRACE_` and that no part of Headrace
reads, ends the start with exit code 2 and one sentence that names it; names that Kubernetes sets
for a Service called `headrace-...` are ignored. `make up` checks all settings before it touches
what runs. `python -m gateway --check` reads them as a start does, asks the serving backend, and
says what is wrong and what to do next, without opening a port.

Lists are written with commas. Yes and no are `1` and `0`; `true`, `yes`, `on` and `false`, `no`,
`off` are read too. In containers the addresses, ports and the model list are set by
`docker-compose.yml`; the others are passed on.

| setting | unit | default | what it does |
|---|---|---|---|
"""


def _cores() -> int:
    """Those this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
