"""Log lines as text and as JSON."""

from __future__ import annotations

import json
import logging
import sys

from headrace.http.log import JsonFormatter, TextFormatter


def record(*, fails: bool = False, **fields: object) -> logging.LogRecord:
    failure = None
    if fails:
        try:
            raise ValueError("why")
        except ValueError:
            failure = sys.exc_info()
    made = logging.LogRecord("headrace", logging.WARNING, __file__, 1, "loaded", None, failure)
    made.created = 1.25
    made.__dict__.update(fields)
    return made


def test_text_quotes_what_would_not_be_read_as_one_value() -> None:
    line = TextFormatter().format(record(model="m", seconds=0.5, reason='no "x"\nhere', label=""))
    assert line == (
        "1970-01-01T00:00:01.250Z WARNING loaded model=m seconds=0.500 "
        'reason="no \\"x\\"\\nhere" label=""'
    )


def test_json_is_one_object_a_line() -> None:
    assert json.loads(JsonFormatter().format(record(model="m", versions=[1, 2]))) == {
        "time": "1970-01-01T00:00:01.250Z",
        "level": "warning",
        "event": "loaded",
        "model": "m",
        "versions": [1, 2],
    }


def test_an_error_brings_its_stack() -> None:
    text = TextFormatter().format(record(fails=True))
    assert text.splitlines()[1].startswith("Traceback") and text.endswith("ValueError: why")
    stack = json.loads(JsonFormatter().format(record(fails=True)))["stack"]
    assert stack.endswith("ValueError: why")
