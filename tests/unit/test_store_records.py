"""TFRecord files, against known checksums and TensorFlow Serving's own warm-up format."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.protocol.errors import DataLoss
from headrace.store import records


def written(*contents: bytes) -> bytes:
    file = io.BytesIO()
    records.write(file, contents)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "crc"),
    [(b"", 0), (b"123456789", 0xE3069283), (b"\0" * 32, 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)],
    ids=["nothing", "check value", "zeros", "ones"],
)
def test_crc32c_has_the_published_values(data: bytes, crc: int) -> None:
    assert records.crc32c(data) == crc


@given(st.integers(0, 20_000), st.integers(0, 255))
def test_long_data_has_the_crc_of_the_plain_loop(length: int, seed: int) -> None:
    data = bytes((i * 31 + seed * i * i) & 0xFF for i in range(length))
    assert records.crc32c(data) == records._plain(0xFFFFFFFF, data) ^ 0xFFFFFFFF


def test_a_record_is_laid_out_as_tensorflow_does() -> None:
    # tf.io.TFRecordWriter wrote b"headrace" so.
    assert written(b"headrace").hex() == "0800000000000000ff86240f68656164726163657050a6b3"


@given(st.lists(st.binary(max_size=5000), max_size=5))
def test_what_was_written_is_read(contents: list[bytes]) -> None:
    assert list(records.read(io.BytesIO(written(*contents)))) == contents


def test_a_file_cut_short_or_damaged_is_data_loss_with_the_place() -> None:
    whole = written(b"first", b"second")
    second_at = len(written(b"first"))
    for length in range(second_at + 1, len(whole)):
        with pytest.raises(DataLoss, match=f"^truncated record at {second_at}$"):
            list(records.read(io.BytesIO(whole[:length])))
    for at in range(second_at, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        with pytest.raises(DataLoss, match=f"^corrupted record at {second_at}"):
            list(records.read(io.BytesIO(bytes(damaged))))


def test_another_kind_of_file_is_told() -> None:
    with pytest.raises(DataLoss, match="Is this even a TFRecord file"):
        list(records.read(io.BytesIO(b"this is a text, and a longer one")))
