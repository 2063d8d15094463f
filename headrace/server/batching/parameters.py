"""TensorFlow Serving's BatchingParameters, as a text file has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headrace.protocol import messages
from headrace.protocol.errors import InvalidArgument
from headrace.server import textfiles
from headrace.server.config import CPUS

_MAX_BATCH_SIZE = 1000
_MAX_ENQUEUED_BATCHES = 10
_THREAD_POOL_NAME = "model_server_batch_threads"


@dataclass(frozen=True, slots=True)
class BatchingParameters:
    """The defaults are those of TensorFlow's scheduler. ``thread_pool_name`` is for the metrics."""

    max_batch_size: int = _MAX_BATCH_SIZE
    batch_timeout_s: float = 0.0
    max_enqueued_batches: int = _MAX_ENQUEUED_BATCHES
    num_batch_threads: int = CPUS
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = _MAX_BATCH_SIZE
    thread_pool_name: str = _THREAD_POOL_NAME

    @classmethod
    def load(cls, path: str) -> BatchingParameters:
        message = textfiles.load(messages.BatchingParameters, path)
        max_batch_size = _value(message, "max_batch_size", _MAX_BATCH_SIZE, least=1)
        splits = message.enable_large_batch_splitting.value
        max_execution_size = max_batch_size
        if splits:
            max_execution_size = _value(
                message, "max_execution_batch_size", max_batch_size, least=1
            )
        allowed_sizes = tuple(message.allowed_batch_sizes)
        _check_allowed_sizes(allowed_sizes, max_execution_size, splits=splits)
        return cls(
            max_batch_size=max_batch_size,
            batch_timeout_s=_value(message, "batch_timeout_micros", 0, least=0) / 1e6,
            max_enqueued_batches=_value(
                message, "max_enqueued_batches", _MAX_ENQUEUED_BATCHES, least=0
            ),
            num_batch_threads=_value(message, "num_batch_threads", CPUS, least=1),
            allowed_batch_sizes=allowed_sizes,
            pad_variable_length_inputs=message.pad_variable_length_inputs,
            enable_large_batch_splitting=splits,
            max_execution_batch_size=max_execution_size,
            thread_pool_name=message.thread_pool_name.value or _THREAD_POOL_NAME,
        )


def _check_allowed_sizes(sizes: tuple[int, ...], largest: int, *, splits: bool) -> None:
    if not sizes:
        return
    if sizes[-1] != largest:
        limit = "max_execution_batch_size" if splits else "max_batch_size"
        raise InvalidArgument(
            f"Last entry in allowed_batch_sizes must match {limit}; last entry was {sizes[-1]}; "
            f"expected {largest}"
        )
    if sizes[0] < 1 or sorted(set(sizes)) != list(sizes):
        raise InvalidArgument(
            "allowed_batch_sizes entries must be positive and monotonically increasing"
        )


def _value(message: Any, name: str, default: int, *, least: int) -> int:
    value: int = getattr(message, name).value if message.HasField(name) else default
    if value < least:
        expected = "positive" if least else "non-negative"
        raise InvalidArgument(f"{name} must be {expected}; was {value}")
    return value
