"""TensorFlow, brought up quiet, seeded and deterministic. Decides when it is imported: not before a
training."""

from __future__ import annotations

import contextlib
import os
from importlib import metadata
from typing import Any

from trainer.errors import NotAvailable


def prepare(seed: int) -> Any:
    """Import TensorFlow and start afresh from ``seed``: what was trained before in this process
    leaves no trace."""
    # 2 hides the C++ side's information and warnings; its errors stay.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        raise NotAvailable("TensorFlow is not installed: `make train` brings it") from error

    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):
            # In use already, so set by the training before this one.
            tf.config.experimental.set_memory_growth(gpu, True)
    # Warns of traces that every fold and seed must make anew.
    tf.get_logger().setLevel("ERROR")
    tf.keras.backend.clear_session()
    # Python's, numpy's and TensorFlow's.
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    return tf


def version() -> str:
    """TensorFlow's, without importing it; "" where it is not installed."""
    for name in ("tensorflow-cpu", "tensorflow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return ""
