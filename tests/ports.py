"""Ports for programs that must be told theirs before they start."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

# Below those that systems give out unasked, so that nobody gets one of these by chance.
_RANGE = range(20_000, 30_000)
_held: list[IO[str]] = []


def hold_ports(count: int) -> list[int]:
    """Ports that are free, and no other process of these tests gets as long as this one lives."""
    folder = Path(tempfile.gettempdir(), f"headrace-test-ports-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    found: list[int] = []
    # Not the tests' own random numbers: those repeat with their seed.
    for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
        lock = (folder / str(port)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.create_server(("127.0.0.1", port)):
                pass
        except OSError:
            lock.close()
            continue
        _held.append(lock)
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"no {count} ports are free in {_RANGE}")
