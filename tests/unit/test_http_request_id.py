"""The id of a request."""

from __future__ import annotations

import re

import pytest

from headrace.http import request_id


@pytest.mark.parametrize("header", [b"abc", b"00-4bf92f35-00f067aa-01", b"a" * 128])
def test_the_callers_id_is_taken(header: bytes) -> None:
    assert request_id.accept(header) == header.decode()


@pytest.mark.parametrize("header", [None, b"", b"a" * 129, b"two words", b"line\nline", b"\xe9"])
def test_what_cannot_stand_in_a_header_or_a_log_is_replaced(header: bytes | None) -> None:
    new = request_id.accept(header)
    assert re.fullmatch("[0-9a-f]{16}", new) and new != request_id.accept(header)
