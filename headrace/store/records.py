"""TFRecord files, the format of warm-up requests.

A record is its length and its data, each with a masked CRC32C.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from headrace.protocol.errors import DataLoss

# Castagnoli's polynomial, with its bits reversed.
_POLYNOMIAL = 0x82F63B78
_MASK = 0xFFFFFFFF
_MASK_DELTA = 0xA282EAD8
_HEAD = struct.Struct("<QI")
_FOOT = struct.Struct("<I")
# For fewer bytes, a plain loop is as fast as starting numpy.
_LANES_FROM_BYTES = 4096


def write(file: BinaryIO, records: Iterable[bytes]) -> None:
    for record in records:
        length = struct.pack("<Q", len(record))
        file.write(_HEAD.pack(len(record), masked_crc32c(length)))
        file.write(record)
        file.write(_FOOT.pack(masked_crc32c(record)))


def read(file: BinaryIO) -> Iterator[bytes]:
    """The records in order.

    Raises DataLoss, in TensorFlow's words, at the first that is cut short or damaged.
    """
    offset = 0
    while True:
        head = file.read(_HEAD.size)
        if not head:
            return
        if len(head) < _HEAD.size:
            raise DataLoss(f"truncated record at {offset}")
        length, check = _HEAD.unpack(head)
        if masked_crc32c(head[:8]) != check:
            raise DataLoss(f"corrupted record at {offset} (Is this even a TFRecord file?)")
        record = file.read(length)
        foot = file.read(_FOOT.size)
        if len(record) < length or len(foot) < _FOOT.size:
            raise DataLoss(f"truncated record at {offset}")
        if masked_crc32c(record) != _FOOT.unpack(foot)[0]:
            raise DataLoss(f"corrupted record at {offset}")
        yield record
        offset += _HEAD.size + length + _FOOT.size


def masked_crc32c(data: bytes) -> int:
    """The CRC as it is stored: rotated, since a CRC of data that contains CRCs is a weak one."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & _MASK


def crc32c(data: bytes) -> int:
    """Long data is cut into lanes, about as many as each has bytes.

    numpy then processes a byte of every lane at once.
    """
    if len(data) < _LANES_FROM_BYTES:
        return _plain(_MASK, data) ^ _MASK
    lanes = int(len(data) ** 0.5)
    width = len(data) // lanes
    body = np.frombuffer(data, np.uint8, lanes * width).reshape(lanes, width)
    table = _table()
    states = np.zeros(lanes, np.uint32)
    for column in np.ascontiguousarray(body.T):
        states = table[(states ^ column) & 0xFF] ^ (states >> np.uint32(8))
    shift = _shift(width)
    crc = _MASK
    # The state before each lane is moved past it, and then the lane's own state is added.
    for state in states.tolist():
        crc = (
            shift[0][crc & 0xFF]
            ^ shift[1][crc >> 8 & 0xFF]
            ^ shift[2][crc >> 16 & 0xFF]
            ^ shift[3][crc >> 24]
            ^ state
        )
    return _plain(crc, data[lanes * width :]) ^ _MASK


def _plain(crc: int, data: bytes) -> int:
    table = _entries()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc


@functools.cache
def _entries() -> tuple[int, ...]:
    entries = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        entries.append(crc)
    return tuple(entries)


@functools.cache
def _table() -> np.ndarray:
    return np.array(_entries(), np.uint32)


@functools.lru_cache(maxsize=64)
def _shift(width: int) -> tuple[tuple[int, ...], ...]:
    """Four tables, one for each byte of a state: what becomes of it after ``width`` zero bytes.

    The operation is linear, so these are enough.
    """
    # Column b is what becomes of bit b.
    matrix = [1 << bit for bit in range(32)]
    power = [_plain(column, b"\0") for column in matrix]
    while width:
        if width & 1:
            matrix = [_times(power, column) for column in matrix]
        power = [_times(power, column) for column in power]
        width >>= 1
    tables = []
    for shift in (0, 8, 16, 24):
        tables.append(tuple(_times(matrix, byte << shift) for byte in range(256)))
    return tuple(tables)


def _times(matrix: list[int], vector: int) -> int:
    result = 0
    for column in matrix:
        if vector & 1:
            result ^= column
        vector >>= 1
    return result
