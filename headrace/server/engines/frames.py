"""What an isolated engine and its child say to each other over a socket: a head as JSON, then
tensors as they are.

A frame is two lengths, the head, and the tensors' protobufs one after the other.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from headrace.protocol import errors, messages, tensors
from headrace.protocol.errors import HeadraceError
from headrace.protocol.faults import Fault

_LENGTHS = struct.Struct(">QQ")
_AT_ONCE = 1 << 20

Head = dict[str, Any]
Arrays = Mapping[str, np.ndarray]


class Frames:
    """One end. Many may send, one receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, head: Head, arrays: Arrays | None = None) -> None:
        """OSError where the other end is gone."""
        parts = [tensors.to_proto(array).SerializeToString() for array in (arrays or {}).values()]
        names = list(arrays or {})
        text = json.dumps(
            {**head, "tensors": [[n, len(part)] for n, part in zip(names, parts, strict=True)]}
        ).encode()
        with self._lock:
            self._connection.sendall(_LENGTHS.pack(len(text), sum(map(len, parts))) + text)
            for part in parts:
                self._connection.sendall(part)

    def receive(self) -> tuple[Head, dict[str, np.ndarray]]:
        """EOFError where the other end is gone."""
        head_bytes, tensor_bytes = _LENGTHS.unpack(self._read(_LENGTHS.size))
        head: Head = json.loads(self._read(head_bytes))
        content = memoryview(self._read(tensor_bytes))
        arrays, at = {}, 0
        for name, size in head.pop("tensors"):
            arrays[name] = tensors.from_proto(
                messages.TensorProto.FromString(content[at : at + size])
            )
            at += size
        return head, arrays

    def close(self) -> None:
        """Whoever waits in receive() gets its EOFError."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            # It is gone already.
            return

    def _read(self, count: int) -> bytearray:
        found = bytearray(count)
        view, at = memoryview(found), 0
        while at < count:
            try:
                got = self._connection.recv_into(view[at : at + _AT_ONCE])
            except OSError as error:
                raise EOFError from error
            if not got:
                raise EOFError
            at += got
        return found


def of_error(error: HeadraceError) -> Head:
    fault = asdict(error.fault) if error.fault else None
    return {"code": error.grpc_code, "message": error.message, "fault": fault}


def to_error(head: Head) -> HeadraceError:
    error = errors.from_grpc_code(head["code"], head["message"])
    if head["fault"]:
        error.fault = Fault(**{**head["fault"], "place": tuple(head["fault"]["place"])})
    return error
