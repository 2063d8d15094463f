"""The id of a request, which joins its lines in the logs of gateway and server."""

from __future__ import annotations

import random
import re

HEADER = "x-request-id"

_VALID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


def accept(header: bytes | None) -> str:
    """The caller's id if it can stand in a header and in a log, else a new one."""
    if header is not None and _VALID.fullmatch(header):
        return header.decode("ascii")
    # It is no secret, and os.urandom() is a system call of 3 us.
    return f"{random.getrandbits(64):016x}"
