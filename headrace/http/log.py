"""Log lines on stderr: time, level, a short constant text, then fields; never a payload.

As text, fields follow as name=value; as JSON, each line is one object.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
import time

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


def install(form: str, level: str, *, loggers: tuple[str, ...]) -> None:
    """Send the log of this process to stderr: ``loggers`` from ``level`` on, all others' warnings.

    ``form`` is text or json. For programs; who embeds a server keeps their own logging.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in loggers:
        logging.getLogger(name).setLevel(level.upper())


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        words = [timestamp(record.created), record.levelname, record.getMessage()]
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                words.append(f"{name}={text(value)}")
        line = " ".join(words)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                line[name] = value
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def text(value: object) -> str:
    """A field's value, quoted where it would not be read as one."""
    plain = f"{value:.3f}" if isinstance(value, float) else str(value)
    if plain and plain.isprintable() and " " not in plain and '"' not in plain:
        return plain
    return json.dumps(plain)


def timestamp(seconds: float) -> str:
    """UTC with milliseconds, as in RFC 3339."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@functools.lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
