"""A conversation over a bare socket, byte for byte as a case has it, and what came back in a few
words."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import CONTINUE

PROBE = b"GET /v1/models/probe HTTP/1.1\r\nHost: a\r\n\r\n"
_QUIET_S = 20.0

Part = bytes | tuple[bytes, int] | float  # bytes, bytes times over, or seconds to wait


@dataclass(frozen=True)
class Heard:
    """The statuses of the answers in their order, and whether the connection was closed after
    them."""

    statuses: tuple[int, ...]
    closed: bool
    bodies: tuple[bytes, ...] = ()

    @property
    def told(self) -> str:
        answers = " ".join(str(s) for s in self.statuses) or "no answer"
        return f"{answers}, closed" if self.closed else answers


def converse(
    port: int, parts: Sequence[Part], *, probed: bool = True, quiet_s: float = _QUIET_S
) -> Heard:
    """Sends the parts and reads every answer. ``probed``: one more request is sent behind them,
    whose 404 names it.

    Its answer being the next one proves that both ends agree where the case ended; it is not among
    those told. Without, the first answer is all that is waited for.
    """
    data = b""
    with socket.create_connection(("127.0.0.1", port), timeout=quiet_s) as connection:
        try:
            for part in (*parts, PROBE) if probed else parts:
                if isinstance(part, float):
                    time.sleep(part)
                elif isinstance(part, bytes):
                    connection.sendall(part)
                else:
                    _repeat(connection, *part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all was sent: the answer is there to be read all the same
        closed = False
        with contextlib.suppress(TimeoutError):
            while not (_is_probed(data) if probed else is_whole(data)):
                try:
                    got = connection.recv(1 << 16)
                except ConnectionResetError:
                    got = b""
                if not got:
                    closed = True
                    break
                data += got
    answers = list(
        _answers(data, bodyless=parts[0][:5] == b"HEAD " if isinstance(parts[0], bytes) else False)
    )
    if probed and answers and b"probe" in answers[-1][1]:
        answers.pop()
    return Heard(tuple(s for s, _ in answers), closed, tuple(body for _, body in answers))


def _repeat(connection: socket.socket, unit: bytes, times: int) -> None:
    per_block = max(1, (1 << 16) // len(unit))
    block = unit * per_block
    whole, rest = divmod(times, per_block)
    for _ in range(whole):
        connection.sendall(block)
    connection.sendall(unit * rest)


def _is_probed(data: bytes) -> bool:
    return b"probe" in data.rpartition(b"HTTP/1.1 404")[2]


def is_whole(data: bytes) -> bool:
    """Whether an answer is there, all of it."""
    head, blank, body = data.partition(b"\r\n\r\n")
    return bool(blank) and len(body) >= _length(head)


def _answers(data: bytes, *, bodyless: bool) -> Iterator[tuple[int, bytes]]:
    """Status and body; ``bodyless``: the first may have a length but no body, as after HEAD."""
    while data:
        head, blank, rest = data.partition(b"\r\n\r\n")
        if not blank or not head.startswith(b"HTTP/1.1 "):
            raise AssertionError(f"not an HTTP answer: {data[:200]!r}")
        status = int(head[9:12])
        bodyless = bodyless and (
            not rest or rest.startswith(b"HTTP/")
        )  # a HEAD that could not be read has one
        length = 0 if bodyless or status == CONTINUE else _length(head)
        if status != CONTINUE:
            yield status, rest[:length]
            bodyless = False
        data = rest[length:]


def _length(head: bytes) -> int:
    found = re.search(rb"\r\ncontent-length: ?(\d+)", head, re.IGNORECASE)
    return int(found[1]) if found else 0
