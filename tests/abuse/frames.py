"""HTTP/2 as nobody should speak it to a gRPC port, as data; and whether the other end then closes
or waits on."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from dataclasses import dataclass

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PING, _WINDOW, _CONTINUATION = (
    0,
    1,
    2,
    3,
    4,
    6,
    8,
    9,
)
_END_HEADERS, _END_STREAM = 4, 1
_QUIET_S = 0.3


@dataclass(frozen=True)
class Frames:
    what: str
    data: bytes
    told: str  # "closed", or "waits" for the rest of what was begun


def frame(
    kind: int, flags: int, stream: int, payload: bytes, *, length: int | None = None
) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


_HEAD = b"".join(
    _literal(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/tensorflow.serving.PredictionService/Predict"),
        (b":authority", b"a"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
)
_HELLO = _PREFACE + frame(_SETTINGS, 0, 0, b"")
_BEGUN = _HELLO + frame(_HEADERS, _END_HEADERS, 1, _HEAD)

FRAMES = (
    Frames("HTTP/1.1 to the gRPC port", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "closed"),
    Frames("random bytes to the gRPC port", bytes(range(256)) * 4, "closed"),
    Frames("half a preface", _PREFACE[:10], "waits"),
    Frames("a frame cut short", _BEGUN + frame(_DATA, 0, 1, b"\0" * 20)[:15], "waits"),
    Frames("a message cut short", _BEGUN + frame(_DATA, 0, 1, b"\0\0\0\1\0abc"), "waits"),
    Frames(
        "a message of 4 GB announced",
        _BEGUN + frame(_DATA, 0, 1, b"\0\xff\xff\xff\xffabc"),
        "waits",
    ),
    Frames(
        "a frame of 16 MB announced",
        _HELLO + frame(_DATA, 0, 1, b"", length=(1 << 24) - 1),
        "closed",
    ),
    Frames("data on stream 0", _HELLO + frame(_DATA, 0, 0, b"x"), "waits"),
    Frames("data on a stream nobody opened", _HELLO + frame(_DATA, 0, 99, b"x"), "waits"),
    Frames("settings of 5 bytes", _PREFACE + frame(_SETTINGS, 0, 0, b"12345"), "closed"),
    Frames(
        "broken header compression",
        _HELLO + frame(_HEADERS, _END_HEADERS, 1, b"\xff" * 50),
        "closed",
    ),
    Frames(
        "headers that never end",
        _HELLO + frame(_HEADERS, 0, 1, _HEAD) + frame(_CONTINUATION, 0, 1, b"") * 2000,
        "closed",
    ),
    Frames("10,000 pings", _HELLO + frame(_PING, 0, 0, b"12345678") * 10_000, "closed"),
    Frames("10,000 settings", _HELLO + frame(_SETTINGS, 0, 0, b"\0\4\0\1\0\0") * 10_000, "waits"),
    Frames("a window beyond 2^31", _HELLO + frame(_WINDOW, 0, 0, b"\x7f\xff\xff\xff") * 3, "waits"),
    Frames(
        "2,000 calls opened and reset",
        _HELLO
        + b"".join(
            frame(_HEADERS, _END_HEADERS, n, _HEAD) + frame(_RESET, 0, n, b"\0\0\0\x08")
            for n in range(1, 4001, 2)
        ),
        "waits",
    ),
)


def play(port: int, data: bytes) -> str:
    """What the other end does once it has said all it wants to."""
    with contextlib.closing(
        socket.create_connection(("127.0.0.1", port), timeout=_QUIET_S)
    ) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                if not connection.recv(1 << 16):
                    return "closed"
            except TimeoutError:
                return "waits"
            except ConnectionResetError:
                return "closed"
    raise AssertionError("it talks on and on")
