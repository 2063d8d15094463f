"""ServerConfig: the settings of a server. Each is a flag of TensorFlow Serving's, with its default,
or one of ours."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

# A port number that means: any free port.
AUTO = -1
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_MIB = 1 << 20


def _flag(
    default: Any, text: str, *, honoured: bool = True, type_: str = "", shown: str = ""
) -> Any:
    """``type_`` is TensorFlow Serving's name of the type where it does not follow from ours.
    ``shown`` stands in the reference for a default that depends on the machine."""
    metadata = {"help": text, "honoured": honoured, "type": type_, "shown": shown}
    return field(default=default, metadata=metadata)


def _ignored(default: Any, text: str, *, shown: str = "") -> Any:
    """A flag of TensorFlow Serving's without effect here; a warning says so when it is given."""
    return _flag(default, text, honoured=False, shown=shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    port: int = _flag(8500, "gRPC port; 0 = none, auto = any free one")
    grpc_socket_path: str = _flag(
        "", "also listen for gRPC on this Unix socket; the path may be relative"
    )
    rest_api_port: int = _flag(0, "REST port; 0 = none, auto = any free one")
    rest_api_num_threads: int = _flag(
        4 * CPUS, "threads that work on REST calls", shown="4 for each core"
    )
    rest_api_timeout_in_ms: int = _flag(30000, "longest time for a REST call, milliseconds")
    rest_api_enable_cors_support: bool = _flag(False, "send CORS headers")
    enable_batching: bool = _flag(
        False, "run requests in batches, as batching_parameters_file says"
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
    num_load_threads: int = _flag(
        0, "versions that load at once; 0 = one for each core, at least 2"
    )
    num_unload_threads: int = _ignored(0, "threads that unload; here all unloads run at once")
    max_num_load_retries: int = _flag(5, "further attempts to load a version that failed")
    load_retry_interval_micros: int = _flag(
        60_000_000, "wait between attempts, microseconds; negative = none", type_="int64"
    )
    file_system_poll_wait_seconds: float = _flag(
        1.0, "look for new versions this often, seconds; 0 = once"
    )
    flush_filesystem_caches: bool = _ignored(True, "drop the page cache after loads")
    tensorflow_session_parallelism: int = _flag(
        0,
        "threads within and between operations; 0 = 1 within, TensorFlow's choice between",
        type_="int64",
    )
    tensorflow_session_config_file: str = _flag("", "ConfigProto as text, for every session")
    tensorflow_intra_op_parallelism: int = _flag(
        0, "threads within an operation; 0 = 1, quickest for small models", type_="int64"
    )
    tensorflow_inter_op_parallelism: int = _flag(
        0, "threads between operations; 0 = TensorFlow's choice", type_="int64"
    )
    use_alts_credentials: bool = _flag(
        False, "ALTS for gRPC, between machines of Google Cloud; not with ssl_config_file"
    )
    ssl_config_file: str = _flag("", "SSLConfig as text: TLS, and mutual TLS, for gRPC")
    platform_config_file: str = _ignored("", "PlatformConfigMap as text")
    per_process_gpu_memory_fraction: float = _flag(
        0.0, "share of a GPU's memory; 0 = TensorFlow decides"
    )
    saved_model_tags: str = _flag("serve", "tags of the meta graph to load, separated by commas")
    grpc_channel_arguments: str = _flag(
        "", "arguments of the gRPC server: k=v,k=v; a whole number is passed as one"
    )
    grpc_max_threads: int = _flag(
        4 * CPUS, "threads that work on gRPC calls", shown="4 for each core"
    )
    enable_model_warmup: bool = _flag(
        True, "run the warm-up requests of a version before it serves"
    )
    num_request_iterations_for_warmup: int = _flag(0, "times each warm-up request is run; 0 = once")
    version: bool = _flag(False, "print versions and exit")
    monitoring_config_file: str = _flag(
        "", "MonitoringConfig as text: whether and where REST shows metrics"
    )
    remove_unused_fields_from_bundle_metagraph: bool = _ignored(
        True, "keep only what serving needs in memory"
    )
    prefer_tflite_model: bool = _ignored(
        False,
        "use model.tflite if there is one; this server has no engine for it",
    )
    num_tflite_pools: int = _ignored(
        CPUS, "pools of TF Lite interpreters", shown="one for each core"
    )
    num_tflite_interpreters_per_pool: int = _ignored(1, "TF Lite interpreters of a pool")
    enable_signature_method_name_check: bool = _flag(False, "check the method names of signatures")
    xla_cpu_compilation_enabled: bool = _flag(False, "compile graphs with XLA, on the CPU")
    xla_gpu_compilation_enabled: bool = _flag(False, "compile graphs with XLA, on the GPU")
    enable_profiler: bool = _flag(
        True, "the RPC service of the profiler; its traces are empty here"
    )
    thread_pool_factory_config_file: str = _ignored("", "ThreadPoolConfig as text")
    mixed_precision: str = _flag("", "bfloat16 = automatic mixed precision")
    skip_initialize_tpu: bool = _ignored(False, "leave TPUs alone")
    enable_grpc_healthcheck_service: bool = _flag(False, "the gRPC health service")
    enable_serialization_as_tensor_content: bool = _flag(
        False, "answer gRPC with tensor_content, not typed values"
    )

    # Ours.
    path: str = _flag(
        "",
        "a folder of one model's versions, a SavedModel, or a folder of models; also written "
        "`headrace serve PATH`",
    )
    models_root: str = _flag(
        "", "folder that replaces /models/ in base paths, so that the config of an image works here"
    )
    bind_address: str = _flag("127.0.0.1", "address both ports listen on")
    access_log: str = _flag(
        "text",
        "a line on stderr for each request: text, json or off; successful requests for states, "
        "signatures and metrics have none",
    )
    port_file: str = _flag("", 'write {"grpc": n, "rest": n} here once the ports are open')
    rest_api_max_body_bytes: int = _flag(
        256 * _MIB, "largest REST body, bytes; more is answered 413"
    )
    rest_api_max_inflated_bytes: int = _flag(
        100 * _MIB,
        "largest inflated size of a gzip body, bytes; a larger one counts as an empty body, as in "
        "TensorFlow Serving",
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
        "longest wait for the first byte on a new REST connection, seconds; 0 = no limit, here and "
        "below",
    )
    rest_api_head_seconds: float = _flag(
        10.0, "longest time for a REST request's head to arrive, seconds; then 408"
    )
    rest_api_body_seconds: float = _flag(
        120.0, "longest time for a REST request's body to arrive, seconds; then 408"
    )
    rest_api_send_seconds: float = _flag(
        60.0, "longest time in which a caller reads nothing of its answer, seconds"
    )
    rest_api_idle_seconds: float = _flag(
        300.0, "longest time a REST connection is kept between requests, seconds"
    )
    grpc_max_message_bytes: int = _flag(256 * _MIB, "largest gRPC request, bytes")
    adaptive_batching: bool = _flag(
        True,
        "run waiting requests together, for signatures that treat each row on its own; "
        "enable_batching overrides it",
    )
    adaptive_max_batch_rows: int = _flag(
        64, "largest adaptive batch, rows; a larger request runs alone"
    )
    max_waiting_requests: int = _flag(
        1000,
        "requests that may wait for each batched signature, and for a thread; more are answered "
        "UNAVAILABLE, 503",
    )
    isolate: bool = _flag(
        False, "run the models in a child process, which is restarted when a model ends it"
    )
    grpc_max_streams: int = _flag(
        65536, "calls at once on one gRPC connection; further ones wait in the client"
    )
    grpc_handshake_seconds: float = _flag(
        10.0, "longest time for a new gRPC connection's settings to arrive, seconds"
    )
    drain_seconds: float = _flag(10.0, "after SIGTERM, longest wait for calls under way, seconds")
