"""A checkpoint's index without a checkpoint: the smallest table that names shards and says how long
they are."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from headrace.protocol import messages


def checkpoint_index(sizes: Sequence[int]) -> bytes:
    """One variable in each shard, from its start to its end."""
    entries = {b"": messages.BundleHeaderProto(num_shards=len(sizes)).SerializeToString()}
    for shard, size in enumerate(sizes):
        half = size // 2
        entries[b"v%d/a" % shard] = messages.BundleEntryProto(
            shard_id=shard, size=half
        ).SerializeToString()
        rest = messages.BundleEntryProto(shard_id=shard, offset=half, size=size - half)
        entries[b"v%d/b" % shard] = rest.SerializeToString()
    data = _block(entries)
    table = data + _block({b"zz": _handle(0, data)})
    listed_at = len(data)
    footer = _handle(0, b"\0" * 5) + _handle(listed_at, table[listed_at:])
    return table + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def _block(entries: dict[bytes, bytes]) -> bytes:
    out, before = b"", b""
    for key, value in entries.items():
        shared = next(
            (i for i, (a, b) in enumerate(zip(before, key, strict=False)) if a != b),
            min(len(before), len(key)),
        )
        out += bytes([shared, len(key) - shared, len(value)]) + key[shared:] + value
        before = key
    return out + struct.pack("<II", 0, 1) + b"\0" + b"crc!"


def _handle(offset: int, block: bytes) -> bytes:
    return _varint(offset) + _varint(len(block) - 5)


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)
