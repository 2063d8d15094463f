"""Callers that take their time, each a conversation that ends when the other end has had enough."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

from tests.abuse.cases import GOOD, MODEL, get, head, post
from tests.abuse.wire import is_whole

_PATIENCE_S = 15.0
_STEP_S = 0.1

Script = Callable[[socket.socket], bytes]


def _drip(connection: socket.socket, data: bytes) -> bytes:
    """A byte at a time until the other end answers or closes; then what it said."""
    until = time.monotonic() + _PATIENCE_S
    connection.settimeout(_STEP_S)
    with contextlib.suppress(
        OSError
    ):  # closed while we were sending; what was said before can still be read
        for i in range(len(data)):
            connection.sendall(data[i : i + 1])
            with contextlib.suppress(TimeoutError):
                if told := connection.recv(1 << 16):
                    return told + _to_end(connection)
                return b""
            assert time.monotonic() < until, "nobody minded"
    return _to_end(connection)


def _answered(connection: socket.socket) -> None:
    connection.settimeout(_PATIENCE_S)
    data = b""
    while not is_whole(data):
        got = connection.recv(1 << 16)
        assert got, data
        data += got


def _to_end(connection: socket.socket) -> bytes:
    """What comes until the other end closes."""
    connection.settimeout(_PATIENCE_S)
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while got := connection.recv(1 << 16):
            data += got
    return data


def _slow_head(connection: socket.socket) -> bytes:
    return _drip(connection, get(MODEL)[:-2] + b"X: " + b"a" * 1000)


def _slow_body(connection: socket.socket) -> bytes:
    connection.sendall(head(b"Content-Length: 1000"))
    return _drip(connection, b" " * 1000)


def _slow_body_of_an_answered_request(connection: socket.socket) -> bytes:
    connection.sendall(head(b"Content-Length: 1000", first=b"GET " + MODEL + b" HTTP/1.1"))
    _answered(connection)
    return _drip(connection, b" " * 1000)


def _half_a_body(connection: socket.socket) -> bytes:
    connection.sendall(post(GOOD)[:-5])
    return _to_end(connection)


def _half_a_head(connection: socket.socket) -> bytes:
    connection.sendall(post(GOOD)[:30])
    return _to_end(connection)


def _silence(connection: socket.socket) -> bytes:
    return _to_end(connection)


def _silence_after_an_answer(connection: socket.socket) -> bytes:
    connection.sendall(get(MODEL))
    _answered(connection)
    return _to_end(connection)


def _empty_lines_after_an_answer(connection: socket.socket) -> bytes:
    connection.sendall(get(MODEL))
    _answered(connection)
    return _drip(connection, b"\r\n" * 1000)


def _answer_not_taken(connection: socket.socket) -> bytes:
    body = b'{"instances": [' + b"1.5, " * 1_500_000 + b"1.5]}"
    with contextlib.suppress(OSError):
        connection.sendall(post(body, path=b"/v1/models/ident_float:predict"))
    connection.settimeout(_PATIENCE_S)
    until = time.monotonic() + _PATIENCE_S
    with contextlib.suppress(OSError):
        while time.monotonic() < until:  # a connection that was given up cannot be written to
            time.sleep(_STEP_S)
            connection.sendall(b"\r\n")
        raise AssertionError("nobody minded")
    return b""


# What each is told: a status, or None where the connection is just closed.
SCRIPTS: dict[str, tuple[Script, int | None]] = {
    "a head byte by byte": (_slow_head, 408),
    "a body byte by byte": (_slow_body, 408),
    "half a head": (_half_a_head, 408),
    "half a body": (_half_a_body, 408),
    "the body of an answered request, byte by byte": (_slow_body_of_an_answered_request, None),
    "silence": (_silence, None),
    "silence after an answer": (_silence_after_an_answer, None),
    "empty lines after an answer": (_empty_lines_after_an_answer, None),
    "an answer that is not taken": (_answer_not_taken, None),
}


def play(script: Script, port: int) -> int | None:
    with contextlib.closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        told = script(connection)
    return int(told[9:12]) if told else None


@contextlib.contextmanager
def crowd(port: int, count: int) -> Iterator[None]:
    """That many connections which say nothing."""
    with contextlib.ExitStack() as opened:
        for _ in range(count):
            opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        yield
