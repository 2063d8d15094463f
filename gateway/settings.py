"""Every knob of the gateway: environment name, default, unit and meaning, in one table.

Read once at start by the caller (``Settings.from_env(os.environ)``), never at import.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from gateway.upstream.address import Address
from headrace import variables
from headrace.protocol.errors import InvalidArgument

_MOST_WORKERS = 256
_UNITS = {
    "_s": "seconds",
    "_bytes": "bytes",
    "_port": "port",
    "_connections": "connections",
    "workers": "processes",
}
_PATIENCE = ("first_byte_s", "head_s", "body_s", "send_s", "idle_s")
_LIMITS = (
    "max_body_bytes",
    "max_json_depth",
    "max_connections",
    "max_header_bytes",
    "max_headers",
    "max_grpc_streams",
)


def _knob(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field a knob; HEADRACE_<FIELD IN CAPITALS> sets it."""

    http_port: int = _knob(8000, "TCP port of the REST door; 0 = any free one.")
    grpc_port: int = _knob(8001, "TCP port of the gRPC door; 0 = any free one.")
    bind_address: str = _knob(
        "127.0.0.1", "Address both doors listen on; 0.0.0.0 = every interface."
    )
    port_file: str = _knob(
        "", 'File that gets {"http": n, "grpc": n} once both doors are open; empty = none.'
    )
    upstream_rest: tuple[str, ...] = _knob(
        ("http://127.0.0.1:8501",),
        "The serving backend's REST port: http://HOST:PORT or unix:/PATH; comma-separated for "
        "several replicas.",
    )
    upstream_grpc: tuple[str, ...] = _knob(
        ("127.0.0.1:8500",),
        "The serving backend's gRPC port: HOST:PORT or unix:/PATH; as many as REST ports, in the "
        "same order.",
    )
    upstream_connections: int = _knob(
        128, "Most REST connections to one replica at once; further calls wait for one."
    )
    upstream_protocol: str = _knob(
        "auto",
        "How JSON predict calls go on: rest = as they came; grpc = as tensors; auto = big ones as "
        "tensors, which costs "
        "gateway and backend together less. gRPC calls always go by gRPC.",
    )
    upstream_grpc_body_bytes: int = _knob(
        128 * 2**10,
        "With upstream_protocol auto, JSON bodies larger than this, in bytes, go on as tensors "
        "over gRPC.",
    )
    connect_timeout_s: float = _knob(
        1.0, "Seconds to wait for a connection to the backend before answering 503."
    )
    timeout_s: float = _knob(
        30.0, "Seconds a call to the backend may take before answering 504; caps gRPC deadlines."
    )
    max_body_bytes: int = _knob(
        64 * 2**20, "Largest request body, in bytes after inflating; above it the answer is 413."
    )
    max_json_depth: int = _knob(
        100_000, "Deepest nesting of a JSON body, in brackets; above it the answer is 400."
    )
    max_connections: int = _knob(
        4096, "Most connections to the REST door at once; further ones are answered 503 and closed."
    )
    max_header_bytes: int = _knob(
        128 * 2**10, "Largest head of a REST request, in bytes; above it the answer is 431."
    )
    max_headers: int = _knob(128, "Most headers of a REST request; above it the answer is 431.")
    max_grpc_streams: int = _knob(
        65536, "Most calls at once on one gRPC connection; further ones wait at the caller."
    )
    first_byte_s: float = _knob(
        60.0, "Seconds a new connection may send nothing before it is closed."
    )
    head_s: float = _knob(
        10.0, "Seconds a request's head may take to arrive before the answer is 408."
    )
    body_s: float = _knob(
        60.0, "Seconds a request's body may take to arrive before the answer is 408."
    )
    send_s: float = _knob(
        60.0, "Seconds a caller may take nothing of its answer before the connection is closed."
    )
    idle_s: float = _knob(75.0, "Seconds a connection is kept between requests.")
    thread_body_bytes: int = _knob(
        64 * 2**10,
        "Bodies larger than this, in bytes, are checked in a thread (+0.1 ms); -1 = never.",
    )
    model_config_file: str = _knob(
        "models/multimodel.config", "The rendered model list that the backend polls too."
    )
    lenient_models: tuple[str, ...] = _knob(
        (), "Comma-separated models whose shapes are not checked; names and dtypes are."
    )
    refresh_s: float = _knob(
        1.0, "Seconds between looks at the model list and at the versions the backend serves."
    )
    probe_s: float = _knob(
        0.2,
        "Seconds between questions whether the backend answers; a second where one backend is "
        "idle.",
    )
    probe_timeout_s: float = _knob(
        0.5, "Seconds without an answer after which the backend counts as down."
    )
    workers: int = _knob(
        1,
        "Processes that share the two ports; 0 or auto = one a core. Each has its own "
        "upstream_connections.",
    )
    drain_s: float = _knob(30.0, "Seconds that running calls get to finish after SIGTERM.")
    access_log: bool = _knob(True, "One line a request on stderr.")
    metrics: bool = _knob(True, "Count and time requests for /metrics.")
    log_level: str = _knob(
        "info", "Lowest level of what else is logged: debug, info, warning or error."
    )

    @property
    def rest_body_bytes(self) -> float:
        """The largest JSON body that goes on as it came."""
        return {"rest": math.inf, "grpc": -1}.get(
            self.upstream_protocol, self.upstream_grpc_body_bytes
        )

    @property
    def processes(self) -> int:
        """How many workers that makes on this machine."""
        return self.workers or _cores()

    def __post_init__(self) -> None:
        for name in ("http_port", "grpc_port"):
            _require(
                0 <= getattr(self, name) <= 65535,
                name,
                getattr(self, name),
                "a port from 0 to 65535",
            )
        for name in (
            "connect_timeout_s",
            "timeout_s",
            "refresh_s",
            "probe_s",
            "probe_timeout_s",
            *_PATIENCE,
        ):
            _require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        for name in ("upstream_connections", *_LIMITS):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(
            0 <= self.workers <= _MOST_WORKERS,
            "workers",
            self.workers,
            f"0 to {_MOST_WORKERS}, or auto",
        )
        _require(self.drain_s >= 0, "drain_s", self.drain_s, "0 or more")
        _require(
            self.thread_body_bytes >= -1, "thread_body_bytes", self.thread_body_bytes, "-1 or more"
        )
        protocols = ("auto", "rest", "grpc")
        _require(
            self.upstream_protocol in protocols,
            "upstream_protocol",
            self.upstream_protocol,
            "auto, rest or grpc",
        )
        _require(
            self.upstream_grpc_body_bytes >= 0,
            "upstream_grpc_body_bytes",
            self.upstream_grpc_body_bytes,
            "0 or more",
        )
        levels = ("debug", "info", "warning", "error")
        _require(
            self.log_level in levels, "log_level", self.log_level, "one of " + ", ".join(levels)
        )
        for address in self.upstream_rest:
            _require(
                _is_rest(address),
                "upstream_rest",
                address,
                "like http://127.0.0.1:8501 or unix:/run/rest.sock",
            )
        for address in self.upstream_grpc:
            _require(
                _is_target(address),
                "upstream_grpc",
                address,
                "like 127.0.0.1:8500 or unix:/run/grpc.sock",
            )
        count = len(self.upstream_rest)
        _require(count > 0, "upstream_rest", "", "at least one address")
        _require(
            len(self.upstream_grpc) == count,
            "upstream_grpc",
            ",".join(self.upstream_grpc),
            f"{count}, one a REST port",
        )
        _require(bool(self.model_config_file), "model_config_file", "", "a path")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Settings from HEADRACE_* variables; a name that no part reads, or a value that does not
        fit, is an error."""
        if wrong := variables.unknown(environ):
            raise InvalidArgument(wrong)
        known = {variable(f.name): f for f in fields(cls)}
        given: dict[str, Any] = {}
        for name, text in variables.ours(environ).items():
            if name not in known:
                continue
            if name == variable("workers") and text.strip().lower() == "auto":
                text = "0"
            given[known[name].name] = _parse(name, str(known[name].type), text)
        return cls(**given)


def variable(field_name: str) -> str:
    """The environment variable of a field."""
    return variables.PREFIX + field_name.upper()


@dataclass(frozen=True, slots=True)
class Knob:
    """A line of the table, as one writes it."""

    variable: str
    unit: str
    default: str
    help: str


def table() -> list[Knob]:
    """Every setting, in the class's order."""
    return [
        Knob(variable(f.name), _unit(f), _shown(f.default), f.metadata["help"])
        for f in fields(Settings)
    ]


def describe() -> str:
    """The whole table as text, for --help."""
    return "\n".join(
        f"  {k.variable} ({k.unit}; default {k.default})\n      {k.help}" for k in table()
    )


def reference() -> str:
    """The whole table as docs/reference/settings.md."""
    rows = [f"| `{k.variable}` | {k.unit} | `{k.default}` | {k.help} |" for k in table()]
    return _PAGE + "\n".join(rows) + "\n"


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


def _unit(f: Field[Any]) -> str:
    for end, unit in _UNITS.items():
        if f.name.endswith(end):
            return unit
    if isinstance(f.default, tuple):
        return "list"
    if isinstance(f.default, bool):
        return "1 or 0"
    return "number" if isinstance(f.default, int) else "text"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        value = ",".join(value)
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value) if value != "" else '""'


def _parse(name: str, kind: str, text: str) -> Any:
    try:
        if kind == "int":
            return int(text)
        if kind == "float":
            number = float(text)
            if number != number or number in (float("inf"), float("-inf")):
                raise ValueError(text)
            return number
        if kind == "bool":
            return {
                "1": True,
                "true": True,
                "yes": True,
                "on": True,
                "0": False,
                "false": False,
                "no": False,
                "off": False,
            }[text.strip().lower()]
    except (ValueError, KeyError):
        wanted = {"int": "a whole number", "float": "a number", "bool": "1 or 0"}[kind]
        raise InvalidArgument(f"{name}={text!r}: expected {wanted}") from None
    if kind.startswith("tuple"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _require(fits: bool, field_name: str, value: object, wanted: str) -> None:
    if not fits:
        raise InvalidArgument(f"{variable(field_name)}={value}: expected {wanted}")


def _is_rest(text: str) -> bool:
    try:
        Address.parse(text)
    except InvalidArgument:
        return False
    return True


def _is_target(text: str) -> bool:
    if text.startswith("unix:"):
        return text.removeprefix("unix:").removeprefix("//").startswith("/")
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) <= 65535
