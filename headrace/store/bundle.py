"""The index of a checkpoint's variables, and from it the least length of each data file.

variables.index is a sorted table in LevelDB's layout: blocks of prefix-compressed entries, a block
that lists the blocks, and a footer with the place of that one. Its values are BundleHeaderProto,
under the empty key, and BundleEntryProto. The data itself is not read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from headrace.protocol import messages
from headrace.protocol.errors import DataLoss, InvalidArgument

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
# One byte for the kind of compression, and a CRC.
_TRAILER_BYTES = 5
_UNCOMPRESSED = 0


def data_files(index: Path) -> dict[str, int]:
    """The name of each data file -> its least length in bytes.

    Raises DataLoss when the index is not complete.
    """
    shards = 0
    ends: dict[int, int] = {}
    try:
        for key, value in _entries(index.read_bytes()):
            if not key:
                shards = messages.parse(messages.BundleHeaderProto, value).num_shards
                continue
            entry = messages.parse(messages.BundleEntryProto, value)
            end = entry.offset + entry.size
            ends[entry.shard_id] = max(ends.get(entry.shard_id, 0), end)
    except (IndexError, struct.error, InvalidArgument) as error:
        raise DataLoss(f"{index.name} is not a whole checkpoint index") from error
    stem = index.name.removesuffix(".index")
    lengths = {}
    for shard in range(shards):
        name = f"{stem}.data-{shard:05d}-of-{shards:05d}"
        lengths[name] = ends.get(shard, 0)
    return lengths


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    footer = table[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise IndexError
    # The first handle is that of the block of filters, which these tables do not have.
    _, at = _handle(footer, 0)
    index_block, _ = _handle(footer, at)
    for _, handle in _block(table, *index_block):
        yield from _block(table, *_handle(handle, 0)[0])


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    trailer = table[offset + size : offset + size + _TRAILER_BYTES]
    if len(trailer) < _TRAILER_BYTES or size < 4:
        raise IndexError
    if trailer[0] != _UNCOMPRESSED:
        # TensorFlow compresses none; of a compressed block we know the files' names alone.
        return
    block = table[offset : offset + size]
    restarts = struct.unpack("<I", block[-4:])[0]
    end = size - 4 - 4 * restarts
    at = 0
    key = b""
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        value_at = at + unshared
        key = key[:shared] + block[at:value_at]
        at = value_at + length
        yield key, block[value_at:at]


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
