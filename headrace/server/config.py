"""ServerConfig: the settings of a server, each a flag of TensorFlow Serving's with its default, or one of ours."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

AUTO = -1  # a port: any free one
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_MIB = 1 << 20


def _flag(default: Any, text: str, *, honoured: bool = True) -> Any:
    return field(default=default, metadata={"help": text, "honoured": honoured})


def _taken(default: Any, text: str) -> Any:
    """A flag of TensorFlow Serving's that is accepted, has no effect here, and says so when it is given."""
    return _flag(default, text, honoured=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    port: int = _flag(8500, "gRPC port; 0 = none, auto = any free one")
    grpc_socket_path: str = _taken("", "also listen for gRPC on this Unix socket")
    rest_api_port: int = _flag(0, "REST port; 0 = none, auto = any free one")
    rest_api_num_threads: int = _flag(4 * CPUS, "threads that work on REST calls")
    rest_api_timeout_in_ms: int = _flag(30000, "longest time for a REST call, milliseconds")
    rest_api_enable_cors_support: bool = _flag(False, "send CORS headers")
    enable_batching: bool = _taken(False, "gather requests into batches")
    allow_version_labels_for_unavailable_models: bool = _flag(False, "allow a new label on a version not yet available")
    batching_parameters_file: str = _taken("", "BatchingParameters as text")
    enable_per_model_batching_parameters: bool = _taken(False, "read batching_params.pbtxt of each version")
    model_config_file: str = _flag("", "ModelServerConfig as text; overrides model_name and model_base_path")
    model_config_file_poll_wait_seconds: float = _flag(0.0, "re-read the config file this often, seconds; 0 = once")
    model_name: str = _flag("default", "name of the single model")
    model_base_path: str = _flag("", "folder of the single model, with its versions")
    num_load_threads: int = _taken(0, "threads that load; here loads always run side by side")
    num_unload_threads: int = _taken(0, "threads that unload")
    max_num_load_retries: int = _flag(5, "further attempts to load a version that failed")
    load_retry_interval_micros: int = _flag(60_000_000, "wait between attempts, microseconds; negative = none")
    file_system_poll_wait_seconds: float = _flag(1.0, "look for new versions this often, seconds; 0 = once")
    flush_filesystem_caches: bool = _taken(True, "drop the page cache after loads")
    tensorflow_session_parallelism: int = _flag(
        0, "threads within and between operations; 0 = 1 within, own choice between"
    )
    tensorflow_session_config_file: str = _taken("", "ConfigProto as text")
    tensorflow_intra_op_parallelism: int = _flag(0, "threads within an operation; 0 = 1, quickest for small models")
    tensorflow_inter_op_parallelism: int = _flag(0, "threads between operations; 0 = TensorFlow's choice")
    use_alts_credentials: bool = _taken(False, "ALTS for gRPC")
    ssl_config_file: str = _taken("", "SSLConfig as text, for gRPC")
    platform_config_file: str = _taken("", "PlatformConfigMap as text")
    per_process_gpu_memory_fraction: float = _taken(0.0, "share of a GPU's memory")
    saved_model_tags: str = _flag("serve", "tags of the meta graph to load, with commas")
    grpc_channel_arguments: str = _taken("", "k=v,k=v for the gRPC server")
    grpc_max_threads: int = _flag(4 * CPUS, "threads that work on gRPC calls")
    enable_model_warmup: bool = _taken(True, "run a version's warm-up requests before it serves")
    num_request_iterations_for_warmup: int = _taken(0, "times each warm-up request is run")
    version: bool = _flag(False, "print versions and exit")
    monitoring_config_file: str = _taken("", "MonitoringConfig as text")
    remove_unused_fields_from_bundle_metagraph: bool = _taken(True, "keep only what serving needs in memory")
    prefer_tflite_model: bool = _taken(False, "use model.tflite where there is one")
    num_tflite_pools: int = _taken(CPUS, "pools of TF Lite interpreters")
    num_tflite_interpreters_per_pool: int = _taken(1, "TF Lite interpreters of a pool")
    enable_signature_method_name_check: bool = _taken(False, "check a signature's method name")
    xla_cpu_compilation_enabled: bool = _taken(False, "XLA on the CPU")
    xla_gpu_compilation_enabled: bool = _taken(False, "XLA on the GPU")
    enable_profiler: bool = _taken(True, "the profiler's RPC service")
    thread_pool_factory_config_file: str = _taken("", "ThreadPoolConfig as text")
    mixed_precision: str = _taken("", "bfloat16 = automatic mixed precision")
    skip_initialize_tpu: bool = _taken(False, "leave TPUs alone")
    enable_grpc_healthcheck_service: bool = _taken(False, "the gRPC health service")
    enable_serialization_as_tensor_content: bool = _flag(False, "answer gRPC with tensor_content, not typed values")

    # Ours.
    models_root: str = _flag("", "folder that stands for /models/ in base paths, so that one config serves images too")
    bind_address: str = _flag("127.0.0.1", "address both ports listen on")
    port_file: str = _flag("", 'write {"grpc": n, "rest": n} here once the ports are open')
    rest_api_max_body_bytes: int = _flag(256 * _MIB, "largest REST body, bytes; more is answered 413")
    grpc_max_message_bytes: int = _flag(256 * _MIB, "largest gRPC request, bytes")
    drain_seconds: float = _flag(10.0, "after SIGTERM, longest wait for calls under way, seconds")
