"""The two option messages TensorFlow takes as bytes, ConfigProto and RunOptions, written by hand: a few varints."""

from __future__ import annotations

from dataclasses import dataclass

CALLERS_THREAD = -1  # an inter_op pool number: run in the thread that calls, no pool


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Thread counts of a session; 0 leaves the choice to TensorFlow.

    One intra-op thread ran small models fastest: a request is the unit of parallelism, not an operation.
    """

    intra_op_threads: int = 1
    inter_op_threads: int = 0

    def config_proto(self) -> bytes:
        soft_placement = _varint_field(7, 1)  # a graph exported on a GPU runs where there is none
        return _varint_field(2, self.intra_op_threads) + _varint_field(5, self.inter_op_threads) + soft_placement


def run_options(*, timeout_ms: int = 0, inter_op_pool: int = 0) -> bytes:
    return _varint_field(2, timeout_ms) + _varint_field(3, inter_op_pool)


def _varint_field(number: int, value: int) -> bytes:
    return b"" if value == 0 else _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative int32 travels as ten bytes
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
