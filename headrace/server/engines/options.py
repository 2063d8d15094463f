"""The two option messages that TensorFlow takes as bytes: ConfigProto for a session, RunOptions for
each run."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.protocol import messages

# The number of an inter_op pool that means: run in the calling thread.
CALLERS_THREAD = -1


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """``base`` is a serialized ConfigProto; thread counts of 0 keep its own.

    The default is one intra-op thread, which ran small models fastest: requests run in parallel,
    not operations.
    """

    intra_op_threads: int = 0
    inter_op_threads: int = 0
    base: bytes = b""
    gpu_memory_fraction: float = 0.0
    bfloat16: bool = False
    xla: bool = False

    def config_proto(self) -> bytes:
        config = messages.ConfigProto.FromString(self.base)
        config.intra_op_parallelism_threads = (
            self.intra_op_threads or config.intra_op_parallelism_threads or 1
        )
        config.inter_op_parallelism_threads = (
            self.inter_op_threads or config.inter_op_parallelism_threads
        )
        # A graph that was exported on a GPU then runs without one.
        config.allow_soft_placement = True
        if self.gpu_memory_fraction:
            config.gpu_options.per_process_gpu_memory_fraction = self.gpu_memory_fraction
        if self.bfloat16:
            config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = _ON
        if self.xla:
            config.graph_options.optimizer_options.global_jit_level = _ON
            config.graph_options.optimizer_options.cpu_global_jit = True
        return bytes(config.SerializeToString())


# ON of RewriterConfig.Toggle, and the first level of GlobalJitLevel.
_ON = 1


def run_options(*, timeout_ms: int = 0, inter_op_pool: int = 0) -> bytes:
    """Every run has its own, so its few varints are written by hand."""
    return _varint_field(2, timeout_ms) + _varint_field(3, inter_op_pool)


def _varint_field(number: int, value: int) -> bytes:
    if value == 0:
        return b""
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    # A negative int32 travels as ten bytes.
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
