"""The access log: what a line says, and that it is written off the callers' path."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from headrace.http import access_log
from headrace.http.access_log import AccessLog, Fields, RequestInfo

REST: dict[str, Any] = {
    "request_id": "abc",
    "protocol": "rest",
    "method": "POST",
    "path": "/v1/models/m:predict",
    "status": 200,
    "seconds": 0.0015,
    "response_bytes": 25,
}
GRPC = REST | {
    "request_id": "",
    "protocol": "grpc",
    "path": "/tensorflow.serving.PredictionService/Predict",
    "status": "NOT_FOUND",
}
INFO = RequestInfo(model="m", version="7", signature="serving_default", request_bytes=17)


def written(form: str, *requests: dict[str, Any]) -> str:
    out = io.StringIO()
    log = AccessLog(form, out)
    log.start()
    for request in requests:
        log.write(INFO, **request)
    log.close()
    return out.getvalue()


def test_a_line_as_text() -> None:
    first, second = written("text", REST, GRPC).splitlines()

    assert first.partition("Z ")[2] == (
        "INFO request request_id=abc protocol=rest method=POST path=/v1/models/m:predict model=m "
        "version=7 signature=serving_default status=200 duration_ms=1.500 request_bytes=17 "
        "response_bytes=25"
    )
    assert (
        'request_id="" protocol=grpc method=POST '
        "path=/tensorflow.serving.PredictionService/Predict " in second
    )
    assert " status=NOT_FOUND " in second


def test_a_line_as_json() -> None:
    first, second = map(json.loads, written("json", REST, GRPC).splitlines())

    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info",
        "event": "request",
        "request_id": "abc",
        "protocol": "rest",
        "method": "POST",
        "path": "/v1/models/m:predict",
        "model": "m",
        "version": "7",
        "signature": "serving_default",
        "status": 200,
        "duration_ms": 1.5,
        "request_bytes": 17,
        "response_bytes": 25,
    }
    assert (second["protocol"], second["status"]) == ("grpc", "NOT_FOUND")


def test_text_and_json_have_the_same_fields_in_the_same_order() -> None:
    text = written("text", REST)
    places = [text.index(f" {name}=") for name in Fields._fields]
    assert places == sorted(places)
    assert tuple(json.loads(written("json", REST)))[3:] == Fields._fields


def test_off_writes_nothing() -> None:
    assert written("off", REST) == ""


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("field", ["request_id", "path"])
def test_a_caller_cannot_write_lines_of_its_own(form: str, field: str) -> None:
    request = REST | {field: "x\n2026 INFO forged\x1b[2J"}
    assert len(written(form, request).splitlines()) == 1


def test_what_a_caller_makes_up_is_cut() -> None:
    line = json.loads(written("json", REST | {"request_id": "i" * 5000, "path": "/" * 5000}))
    assert (len(line["request_id"]), len(line["path"])) == (128, 300)


def test_lines_beyond_what_may_wait_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "_MAX_WAITING", 2)
    out = io.StringIO()
    log = AccessLog("json", out)
    for _ in range(5):
        log.write(INFO, **REST)
    log.start()
    log.close()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["request", "request", "access log lines dropped"]
    assert lines[-1]["count"] == 3


def test_lines_are_written_whole_in_pieces_that_a_pipe_takes_at_once() -> None:
    sizes: list[int] = []

    class Pieces(io.StringIO):
        def write(self, text: str) -> int:
            assert text.endswith("\n")
            sizes.append(len(text))
            return super().write(text)

    out = Pieces()
    log = AccessLog("json", out)
    for _ in range(100):
        log.write(INFO, **REST)
    log.start()
    log.close()
    assert out.getvalue().count("\n") == 100
    assert 5 < len(sizes) < 20 and max(sizes) <= 4096


def test_a_reader_that_is_gone_stops_nothing() -> None:
    out = io.StringIO()
    log = AccessLog("text", out)
    log.start()
    out.close()
    log.write(INFO, **GRPC)
    log.close()
