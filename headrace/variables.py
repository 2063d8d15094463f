"""The name of every environment variable that Headrace reads, by the part that reads it.

One environment serves all parts, so each ignores the names of the others, and all refuse the same
misspellings.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

PREFIX = "HEADRACE_"

GATEWAY = frozenset(
    PREFIX + name
    for name in (
        "ACCESS_LOG",
        "BIND_ADDRESS",
        "BODY_S",
        "CONNECT_TIMEOUT_S",
        "DRAIN_S",
        "FIRST_BYTE_S",
        "GRPC_PORT",
        "HEAD_S",
        "HTTP_PORT",
        "IDLE_S",
        "LENIENT_MODELS",
        "LOG_LEVEL",
        "MAX_BODY_BYTES",
        "MAX_CONNECTIONS",
        "MAX_GRPC_STREAMS",
        "MAX_HEADERS",
        "MAX_HEADER_BYTES",
        "MAX_JSON_DEPTH",
        "METRICS",
        "MODEL_CONFIG_FILE",
        "PORT_FILE",
        "PROBE_S",
        "PROBE_TIMEOUT_S",
        "REFRESH_S",
        "SEND_S",
        "THREAD_BODY_BYTES",
        "TIMEOUT_S",
        "UPSTREAM_CONNECTIONS",
        "UPSTREAM_GRPC",
        "UPSTREAM_GRPC_BODY_BYTES",
        "UPSTREAM_PROTOCOL",
        "UPSTREAM_REST",
        "WORKERS",
    )
)
TRAINER = frozenset(
    PREFIX + name for name in ("CACHE", "CONFIG", "GATEWAY", "LIVE_TIMEOUT_S", "STORE")
)
# The command headrace reads CONFIG, STORE and the ports too.
CLIENT = frozenset({PREFIX + "URL"})
LOCAL = frozenset(
    PREFIX + name for name in ("RUN", "SERVING_GRPC_PORT", "SERVING_REST_PORT", "START_TIMEOUT_S")
)
COMPOSE = frozenset(
    PREFIX + name
    for name in (
        "BASE_IMAGE",
        "CA",
        "CONFIG_DIR",
        "CONFIG_POLL_S",
        "GATEWAY_CPUS",
        "GATEWAY_MEMORY",
        "GID",
        "GPU_MEMORY_FRACTION",
        "PIP_CONF",
        "REVISION",
        "SERVING_CPUS",
        "SERVING_MEMORY",
        "SERVING_START_PERIOD",
        "TAG",
        "TRAINER_CPUS",
        "TRAINER_MEMORY",
        "UID",
        "VERSION",
        "VERSION_POLL_S",
    )
)
TESTS = frozenset(PREFIX + name for name in ("CONTRACT_TARGET", "ENGINE_CACHE"))
ALL = GATEWAY | TRAINER | CLIENT | LOCAL | COMPOSE | TESTS

# What Kubernetes puts into every container for a Service called headrace or headrace-...:
# X_SERVICE_HOST, X_SERVICE_PORT[_NAME], X_PORT_8000_TCP[_PROTO|_PORT|_ADDR], and
# X_PORT=tcp://HOST:PORT, told by its value.
_OF_A_SERVICE = re.compile(
    r"HEADRACE(?:_\w+)?"
    r"(?:_SERVICE_HOST|_SERVICE_PORT(?:_\w+)?|_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://")


def ours(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables with our prefix that Kubernetes has not put there."""
    ours = {}
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX) and not _is_of_kubernetes(name, value):
            ours[name] = value
    return ours


def unknown(environ: Mapping[str, str]) -> str | None:
    """A sentence on the first name that no part reads; None when all names are known."""
    for name in ours(environ):
        if name not in ALL:
            return f"{name} is not a setting{_hint(name)}"
    return None


def _is_of_kubernetes(name: str, value: str) -> bool:
    if _OF_A_SERVICE.fullmatch(name):
        return True
    return name.endswith("_PORT") and _SERVICE_ADDRESS.match(value) is not None


def _hint(name: str) -> str:
    names = {known.removeprefix(PREFIX): known for known in sorted(ALL)}
    near = difflib.get_close_matches(name.removeprefix(PREFIX), names, n=1, cutoff=0.7)
    if near:
        return f"; did you mean {names[near[0]]}?"
    return "; `python -m gateway --help` lists those of the gateway"
