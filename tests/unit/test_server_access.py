"""The access log: what a line says, and that it is written off the callers' path."""

from __future__ import annotations

import io
import json
import time

import pytest

from headrace.server.access import AccessLog


def written(form: str, *, request_id: bytes = b"") -> str:
    out = io.StringIO()
    access = AccessLog(form, out)
    started = time.perf_counter()
    access.rest("POST", b"/v1/models/m:predict", 200, started, bytes_out=25, request_id=request_id)
    access.grpc("/tensorflow.serving.PredictionService/Predict", "NOT_FOUND", started)
    access.close()
    return out.getvalue()


def test_a_line_as_text() -> None:
    first, second = written("text", request_id=b"abc").splitlines()

    assert " INFO request door=rest method=POST target=/v1/models/m:predict status=200 ms=" in first
    assert first.endswith(" bytes_out=25 request_id=abc")
    assert (
        "door=grpc method=POST target=/tensorflow.serving.PredictionService/Predict "
        "status=NOT_FOUND ms=" in second
    )


def test_a_line_as_json() -> None:
    first, second = map(json.loads, written("json", request_id=b"abc").splitlines())

    assert first.pop("at").endswith("Z") and first.pop("ms") >= 0
    assert first == {
        "event": "request",
        "door": "rest",
        "method": "POST",
        "target": "/v1/models/m:predict",
        "status": 200,
        "bytes_out": 25,
        "request_id": "abc",
    }
    assert (second["door"], second["status"]) == ("grpc", "NOT_FOUND")


def test_off_writes_nothing() -> None:
    assert written("off") == ""


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_caller_cannot_write_lines_of_its_own(form: str) -> None:
    assert len(written(form, request_id=b"x\n2026 INFO forged\x1b[2J").splitlines()) == 2


def test_a_reader_that_is_gone_stops_nothing() -> None:
    out = io.StringIO()
    access = AccessLog("text", out)
    out.close()
    access.grpc("/a/b", "OK", time.perf_counter())
    access.close()
