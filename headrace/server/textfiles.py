"""TensorFlow Serving's config files, in protobuf's text format, that flags name. Each is read once,
at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.protocol import messages
from headrace.protocol.errors import ConfigError, NotFound


def load(cls: Any, path: str) -> Any:
    """The message in a file. NotFound or ConfigError when there is none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            "not UTF-8 text", source=path, serving_text=f"Invalid protobuf file: '{path}'"
        ) from error
    except OSError as error:
        raise NotFound(f"{path}; {error.strerror}") from error
    return messages.parse_text(cls, text, path)


def fault(error: ConfigError) -> str:
    """What is wrong with a config, for the log. It begins as TensorFlow Serving's line does, for
    those who search for that."""
    if error.unparsed:
        return f"Error parsing text-format {error.unparsed}: {error.message}"
    return error.message
