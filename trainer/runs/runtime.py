"""Imports TensorFlow, quiet, seeded and deterministic; not before a training."""

from __future__ import annotations

import contextlib
import os
from importlib import metadata
from typing import Any

from trainer.errors import NotAvailable


def prepare(seed: int) -> Any:
    """Import TensorFlow and start from ``seed``; earlier trainings here leave no trace."""
    # 2 hides the information and warnings of its C++ side; errors are still shown.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        raise NotAvailable("TensorFlow is not installed: `make train` brings it") from error

    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):
            # The error says that the GPU is in use, so an earlier training has set this.
            tf.config.experimental.set_memory_growth(gpu, True)
    # It would warn of the traces that every fold and seed makes anew.
    tf.get_logger().setLevel("ERROR")
    tf.keras.backend.clear_session()
    # Of Python, numpy and TensorFlow.
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    return tf


def version() -> str | None:
    """TensorFlow's version, without importing it; None when it is not installed."""
    for name in ("tensorflow-cpu", "tensorflow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return None
