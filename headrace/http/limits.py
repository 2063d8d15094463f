"""What a caller may take of a server process: connections, header sizes, time."""

from __future__ import annotations

import resource
from dataclasses import dataclass

# For models, gRPC and a gateway's own connections.
_OTHER_DESCRIPTORS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times are in seconds, 0 = without limit."""

    connections: int = 4096
    head_bytes: int = 128 << 10
    headers: int = 128
    first_byte_s: float = 60.0
    head_s: float = 10.0
    body_s: float = 120.0
    send_s: float = 60.0
    idle_s: float = 300.0


def raise_descriptor_limit(connections: int) -> None:
    """To what the connections and everything else need, as far as the system allows: many systems
    start a process with 1,024."""
    needed = connections + _OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY:
        needed = min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
