"""ServerConfig: the settings of a server, each a flag of TensorFlow Serving's with its default, or
one of ours."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

# A port: any free one.
AUTO = -1
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_MIB = 1 << 20


def _flag(
    default: Any, text: str, *, honoured: bool = True, kind: str = "", shown: str = ""
) -> Any:
    """``shown`` is how the reference words a default that depends on the machine."""
    return field(
        default=default, metadata={"help": text, "honoured": honoured, "kind": kind, "shown": shown}
    )


def _taken(default: Any, text: str, *, shown: str = "") -> Any:
    """A flag of TensorFlow Serving's that is accepted, has no effect here, and says so when it is
    given."""
    return _flag(default, text, honoured=False, shown=shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    port: int = _flag(8500, "gRPC port; 0 = none, auto = any free one")
    grpc_socket_path: str = _flag(
        "", "also listen for gRPC on this Unix socket; the path may be relative"
    )
    rest_api_port: int = _flag(0, "REST port; 0 = none, auto = any free one")
    rest_api_num_threads: int = _flag(4 * CPUS, "threads that work on REST calls", shown="4 a core")
    rest_api_timeout_in_ms: int = _flag(30000, "longest time for a REST call, milliseconds")
    rest_api_enable_cors_support: bool = _flag(False, "send CORS headers")
    enable_batching: bool = _flag(
        False, "gather requests into batches, as batching_parameters_file says"
    )
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "allow a new label on a version not yet available"
    )
    batching_parameters_file: str = _flag("", "BatchingParameters as text; needs enable_batching")
    enable_per_model_batching_parameters: bool = _flag(
        False, "read batching_params.pbtxt of each version; a version without one is not batched"
    )
    model_config_file: str = _flag(
        "", "ModelServerConfig as text; overrides model_name and model_base_path"
    )
    model_config_file_poll_wait_seconds: float = _flag(
        0.0, "re-read the config file this often, seconds; 0 = once"
    )
    model_name: str = _flag("default", "name of the single model")
    model_base_path: str = _flag("", "folder of the single model, with its versions")
    num_load_threads: int = _flag(0, "versions that load side by side; 0 = one a core, at least 2")
    num_unload_threads: int = _taken(0, "threads that unload; here unloads always run side by side")
    max_num_load_retries: int = _flag(5, "further attempts to load a version that failed")
    load_retry_interval_micros: int = _flag(
        60_000_000, "wait between attempts, microseconds; negative = none", kind="int64"
    )
    file_system_poll_wait_seconds: float = _flag(
        1.0, "look for new versions this often, seconds; 0 = once"
    )
    flush_filesystem_caches: bool = _taken(True, "drop the page cache after loads")
    tensorflow_session_parallelism: int = _flag(
        0, "threads within and between operations; 0 = 1 within, own choice between", kind="int64"
    )
    tensorflow_session_config_file: str = _flag("", "ConfigProto as text, for every session")
    tensorflow_intra_op_parallelism: int = _flag(
        0, "threads within an operation; 0 = 1, quickest for small models", kind="int64"
    )
    tensorflow_inter_op_parallelism: int = _flag(
        0, "threads between operations; 0 = TensorFlow's choice", kind="int64"
    )
    use_alts_credentials: bool = _flag(
        False, "ALTS for gRPC, between machines of Google's cloud; not with ssl_config_file"
    )
    ssl_config_file: str = _flag("", "SSLConfig as text: TLS, and mutual TLS, for gRPC")
    platform_config_file: str = _taken("", "PlatformConfigMap as text")
    per_process_gpu_memory_fraction: float = _flag(
        0.0, "share of a GPU's memory; 0 = TensorFlow decides"
    )
    saved_model_tags: str = _flag("serve", "tags of the meta graph to load, with commas")
    grpc_channel_arguments: str = _flag(
        "", "k=v,k=v for the gRPC server; whole numbers are found out"
    )
    grpc_max_threads: int = _flag(4 * CPUS, "threads that work on gRPC calls", shown="4 a core")
    enable_model_warmup: bool = _flag(True, "run a version's warm-up requests before it serves")
    num_request_iterations_for_warmup: int = _flag(0, "times each warm-up request is run; 0 = once")
    version: bool = _flag(False, "print versions and exit")
    monitoring_config_file: str = _flag(
        "", "MonitoringConfig as text: whether and where REST shows metrics"
    )
    remove_unused_fields_from_bundle_metagraph: bool = _taken(
        True, "keep only what serving needs in memory"
    )
    prefer_tflite_model: bool = _taken(
        False,
        "use model.tflite where there is one; the engine for it comes with an extra, not with "
        "this server",
    )
    num_tflite_pools: int = _taken(CPUS, "pools of TF Lite interpreters", shown="one a core")
    num_tflite_interpreters_per_pool: int = _taken(1, "TF Lite interpreters of a pool")
    enable_signature_method_name_check: bool = _flag(False, "check a signature's method name")
    xla_cpu_compilation_enabled: bool = _flag(False, "compile graphs with XLA, on the CPU")
    xla_gpu_compilation_enabled: bool = _flag(False, "compile graphs with XLA, on the GPU")
    enable_profiler: bool = _flag(True, "the profiler's RPC service; its traces are empty here")
    thread_pool_factory_config_file: str = _taken("", "ThreadPoolConfig as text")
    mixed_precision: str = _flag("", "bfloat16 = automatic mixed precision; nothing else is known")
    skip_initialize_tpu: bool = _taken(False, "leave TPUs alone")
    enable_grpc_healthcheck_service: bool = _flag(False, "the gRPC health service")
    enable_serialization_as_tensor_content: bool = _flag(
        False, "answer gRPC with tensor_content, not typed values"
    )

    # Ours.
    path: str = _flag(
        "",
        "folder of one model's versions, one SavedModel, or folder of models; `headrace serve "
        "PATH` is short for it",
    )
    models_root: str = _flag(
        "", "folder that stands for /models/ in base paths, so that one config serves images too"
    )
    bind_address: str = _flag("127.0.0.1", "address both ports listen on")
    access_log: str = _flag(
        "text",
        "a line on stderr for each request but answered ones about states, signatures and "
        "metrics: text, json or off",
    )
    port_file: str = _flag("", 'write {"grpc": n, "rest": n} here once the ports are open')
    rest_api_max_body_bytes: int = _flag(
        256 * _MIB, "largest REST body, bytes; more is answered 413"
    )
    rest_api_max_inflated_bytes: int = _flag(
        100 * _MIB,
        "largest gzip body once inflated, bytes; more counts as an empty body, as with TensorFlow "
        "Serving",
    )
    rest_api_max_json_depth: int = _flag(
        100_000, "deepest nesting of a REST body, brackets; more is answered 400"
    )
    rest_api_max_connections: int = _flag(
        4096, "REST connections at once; more are answered 503 and closed"
    )
    rest_api_max_header_bytes: int = _flag(
        128 << 10, "largest head of a REST request, bytes; more is answered 431"
    )
    rest_api_max_headers: int = _flag(128, "most headers of a REST request; more is answered 431")
    rest_api_first_byte_seconds: float = _flag(
        60.0,
        "longest wait for the first byte on a new REST connection, seconds; 0 = no end, here and "
        "below",
    )
    rest_api_head_seconds: float = _flag(
        10.0, "longest time for a REST request's head to arrive, seconds; then 408"
    )
    rest_api_body_seconds: float = _flag(
        120.0, "longest time for a REST request's body to arrive, seconds; then 408"
    )
    rest_api_send_seconds: float = _flag(
        60.0, "longest time in which a caller takes nothing of its answer, seconds"
    )
    rest_api_idle_seconds: float = _flag(
        300.0, "longest time a REST connection is kept between requests, seconds"
    )
    grpc_max_message_bytes: int = _flag(256 * _MIB, "largest gRPC request, bytes")
    adaptive_batching: bool = _flag(
        True,
        "run requests that wait together, for signatures that treat rows one by one; "
        "enable_batching overrides it",
    )
    adaptive_max_batch_rows: int = _flag(
        64, "rows of an adaptive batch; a request with more runs alone"
    )
    max_waiting_requests: int = _flag(
        1000,
        "requests that may wait, for each batched signature and for a thread; more are answered "
        "UNAVAILABLE, 503",
    )
    isolate: bool = _flag(
        False, "run the models in a child process, which is restarted when one of them ends it"
    )
    grpc_max_streams: int = _flag(
        65536, "calls at once on one gRPC connection; further ones wait at the caller's end"
    )
    grpc_handshake_seconds: float = _flag(
        10.0, "longest time for a new gRPC connection's settings to arrive, seconds"
    )
    drain_seconds: float = _flag(10.0, "after SIGTERM, longest wait for calls under way, seconds")
