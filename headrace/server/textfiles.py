"""Config files of TensorFlow Serving's in protobuf's text format, which flags name. Each is read
once, at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.protocol import messages
from headrace.protocol.errors import ConfigError, NotFound


def load(cls: Any, path: str) -> Any:
    """The message in a file. NotFound and ConfigError are reasons not to start."""
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
    """What is wrong with a config, for the log: begun as TensorFlow Serving's is, for those who
    look for that."""
    return (
        f"Error parsing text-format {error.unparsed}: {error.message}"
        if error.unparsed
        else error.message
    )
