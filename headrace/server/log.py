"""Log lines to stderr: time, level, a constant text, then fields as name=value. What is logged
holds no payloads."""

from __future__ import annotations

import json
import logging
import sys
import time

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


def install(level: int = logging.INFO) -> None:
    """Sends the server's log to stderr; for programs. A library that embeds a Server keeps its own
    logging."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Fields())
    for name, least in (("headrace", level), ("uvicorn", max(level, logging.WARNING))):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(least)
        logger.propagate = False


class _Fields(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        at = f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z"
        fields = [f"{k}={text(v)}" for k, v in record.__dict__.items() if k not in _STANDARD]
        line = " ".join([at, record.levelname, record.getMessage(), *fields])
        return line + "\n" + self.formatException(record.exc_info) if record.exc_info else line


def text(value: object) -> str:
    """A field's value, quoted where it would not be read as one."""
    plain = f"{value:.3f}" if isinstance(value, float) else str(value)
    return (
        plain
        if plain.isprintable() and plain and " " not in plain and '"' not in plain
        else json.dumps(plain)
    )
