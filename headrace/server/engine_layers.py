"""Builds the engine of a server from its config: TensorFlow, in layers for isolation, batching and
warm-up."""

from __future__ import annotations

from contextlib import ExitStack

from headrace.protocol import messages
from headrace.server import textfiles
from headrace.server.batching.adaptive import AdaptiveEngine
from headrace.server.batching.batch_scheduler import BatchScheduler
from headrace.server.batching.batcher import Limits
from headrace.server.batching.parameters import BatchingParameters
from headrace.server.batching.tf_serving import BatchingEngine
from headrace.server.config import CPUS, ServerConfig
from headrace.server.engines import Engine
from headrace.server.engines.isolated import AutoIsolatingEngine, IsolatedEngine
from headrace.server.engines.options import SessionOptions
from headrace.server.engines.tensorflow import TensorFlowEngine
from headrace.server.lifecycle.warmup import WarmingEngine
from headrace.server.metrics import Metrics


def build(config: ServerConfig, opened: ExitStack, metrics: Metrics) -> Engine:
    """TensorFlow, in the layers that the flags ask for; warm-up goes through the batching."""
    tags = tuple(config.saved_model_tags.split(","))
    tensorflow = TensorFlowEngine(tags, _session_options(config))
    isolated = opened.enter_context(IsolatedEngine(tensorflow))
    engine: Engine = isolated if config.isolate else AutoIsolatingEngine(tensorflow, isolated)
    if config.enable_batching:
        file = config.batching_parameters_file
        parameters = BatchingParameters.load(file) if file else BatchingParameters()
        scheduler = BatchScheduler(parameters.num_batch_threads, metrics)
        opened.callback(scheduler.close)
        is_per_model = config.enable_per_model_batching_parameters
        engine = BatchingEngine(engine, scheduler, None if is_per_model else parameters)
    if config.enable_model_warmup:
        engine = WarmingEngine(engine, max(1, config.num_request_iterations_for_warmup), metrics)
    if config.adaptive_batching and not config.enable_batching:
        limits = Limits(
            config.adaptive_max_batch_rows, config.max_waiting_requests, parallel=max(1, CPUS - 1)
        )
        engine = AdaptiveEngine(engine, limits, metrics)
    return engine


def _session_options(config: ServerConfig) -> SessionOptions:
    threads = config.tensorflow_session_parallelism
    base = b""
    if config.tensorflow_session_config_file:
        message = textfiles.load(messages.ConfigProto, config.tensorflow_session_config_file)
        base = message.SerializeToString()
    return SessionOptions(
        intra_op_threads=config.tensorflow_intra_op_parallelism or threads,
        inter_op_threads=config.tensorflow_inter_op_parallelism or threads,
        base=base,
        gpu_memory_fraction=config.per_process_gpu_memory_fraction,
        bfloat16=config.mixed_precision == "bfloat16",
        xla=config.xla_cpu_compilation_enabled or config.xla_gpu_compilation_enabled,
    )
