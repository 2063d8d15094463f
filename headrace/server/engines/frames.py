"""The messages between an isolated engine and its child over a socket.

A frame is two lengths, a head as JSON, and the tensors as serialized TensorProtos.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from dataclasses import asdict
from typing import Any

import numpy as np

from headrace.protocol import errors, messages, tensors
from headrace.protocol.errors import HeadraceError
from headrace.protocol.faults import Fault
from headrace.server.engines import Arrays

_LENGTHS = struct.Struct(">QQ")
_CHUNK_BYTES = 1 << 20

Head = dict[str, Any]


class Frames:
    """One end of the connection. Many threads may send, one receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, head: Head, arrays: Arrays | None = None) -> None:
        """Raises OSError if the other end is closed."""
        parts: list[bytes] = []
        sizes: list[tuple[str, int]] = []
        tensor_bytes = 0
        for name, array in (arrays or {}).items():
            part = tensors.to_proto(array).SerializeToString()
            parts.append(part)
            sizes.append((name, len(part)))
            tensor_bytes += len(part)
        text = json.dumps({**head, "tensors": sizes}).encode()
        lengths = _LENGTHS.pack(len(text), tensor_bytes)
        with self._lock:
            self._connection.sendall(lengths + text)
            for part in parts:
                self._connection.sendall(part)

    def receive(self) -> tuple[Head, dict[str, np.ndarray]]:
        """Raises EOFError if the other end is closed."""
        head_bytes, tensor_bytes = _LENGTHS.unpack(self._read(_LENGTHS.size))
        head: Head = json.loads(self._read(head_bytes))
        content = memoryview(self._read(tensor_bytes))
        arrays = {}
        start = 0
        for name, size in head.pop("tensors"):
            proto = messages.TensorProto.FromString(content[start : start + size])
            arrays[name] = tensors.from_proto(proto)
            start += size
        return head, arrays

    def close(self) -> None:
        """Whoever waits in receive() gets an EOFError."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            # It is closed already.
            return

    def _read(self, count: int) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        position = 0
        while position < count:
            try:
                size = self._connection.recv_into(view[position : position + _CHUNK_BYTES])
            except OSError as error:
                raise EOFError from error
            if not size:
                raise EOFError
            position += size
        return data


def from_error(error: HeadraceError) -> Head:
    fault = asdict(error.fault) if error.fault else None
    return {"code": error.grpc_code, "message": error.message, "fault": fault}


def to_error(head: Head) -> HeadraceError:
    error = errors.from_grpc_code(head["code"], head["message"])
    fault = head["fault"]
    if fault:
        error.fault = Fault(**{**fault, "place": tuple(fault["place"])})
    return error
