"""The server: builds its parts from a config, opens the ports, and closes everything in order."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import grpc

from headrace.http.connection import Limits
from headrace.protocol import messages
from headrace.protocol.errors import InvalidArgument, Unavailable
from headrace.server import paths, textfiles
from headrace.server.access import AccessLog
from headrace.server.batching.adaptive import AdaptiveEngine
from headrace.server.batching.batch_scheduler import BatchScheduler
from headrace.server.batching.batcher import Limits as BatchLimits
from headrace.server.batching.parameters import BatchingParameters
from headrace.server.batching.tf_serving import BatchingEngine
from headrace.server.config import AUTO, CPUS, ServerConfig
from headrace.server.core import Core
from headrace.server.engines import Engine
from headrace.server.engines.isolated import AutoIsolatingEngine, IsolatedEngine
from headrace.server.engines.options import SessionOptions
from headrace.server.engines.tensorflow import TensorFlowEngine
from headrace.server.grpc import tls
from headrace.server.grpc.listener import GrpcServer
from headrace.server.grpc.services import ModelService, PredictionService, ProfilerService
from headrace.server.lifecycle.config_watcher import ConfigWatcher
from headrace.server.lifecycle.reload import Reloader
from headrace.server.lifecycle.repository import Repository
from headrace.server.lifecycle.warmup import WarmingEngine
from headrace.server.metrics import PATH, Metrics
from headrace.server.rest.door import RestDoor
from headrace.server.rest.listener import HttpServer
from headrace.server.runner import Runner
from headrace.store import folders
from headrace.store.model_list import ModelConfig, ServingConfig

log = logging.getLogger(__name__)


class Server:
    """``with Server(config) as server:`` serves. Models load in the background;
    ``wait_until_ready`` waits for them."""

    def __init__(self, config: ServerConfig) -> None:
        _check(config)
        self.config = config
        self.rest_port = 0
        self.grpc_port = 0
        self._closing = ExitStack()
        self._stopped = threading.Event()
        self._repository: Repository | None = None
        # False if a call did not end in time when the server stopped: its thread still runs.
        self.is_quiet = True

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Opens the ports. When a config is wrong or a port is taken it raises and leaves nothing
        open."""
        with ExitStack() as opened:
            self._open(opened)
            self._closing = opened.pop_all()

    def wait_until_ready(self, timeout_s: float | None = None) -> bool:
        """Whether, within the time, every configured model is AVAILABLE or has failed."""
        if self._repository is None:
            return False
        return self._repository.wait_until_settled(timeout_s)

    def not_served(self) -> list[str]:
        """The configured models of which no version is available."""
        if self._repository is None:
            return []
        models = self._repository.models()
        return [model.name for model in models if model.default_version is None]

    def wait(self) -> None:
        """Until stop() is called from elsewhere."""
        self._stopped.wait()

    def stop(self) -> None:
        """Refuses new calls, waits for those under way, and unloads the models."""
        self._stopped.set()
        self._closing.close()

    def _open(self, opened: ExitStack) -> None:
        config = self.config
        metrics = Metrics()
        engine = _engine(config, opened, metrics)
        repository = self._repository = _repository(config, engine, metrics)
        opened.callback(self._close_repository)
        runner = Runner(
            threads=config.rest_api_num_threads, max_waiting=config.max_waiting_requests
        )
        opened.callback(runner.close)
        core = Core(
            repository,
            runner,
            metrics=metrics,
            check_methods=config.enable_signature_method_name_check,
        )
        access = AccessLog(config.access_log)
        opened.callback(access.close)
        doors = self._doors(core, runner, Reloader(repository), metrics, access)
        opened.callback(_close_doors, doors)
        watcher = _config_watcher(config, repository)
        opened.callback(watcher.stop)
        watcher.start()
        for door in doors:
            door.start()
        self._announce()

    def _doors(
        self, core: Core, runner: Runner, reloader: Reloader, metrics: Metrics, access: AccessLog
    ) -> list[GrpcServer | HttpServer]:
        """gRPC and REST, bound to their ports but not started: a port that is taken shows before
        anything starts."""
        config = self.config
        doors: list[GrpcServer | HttpServer] = []
        try:
            if config.port or config.grpc_socket_path:
                doors.append(_grpc(config, core, reloader, metrics, access))
                self.grpc_port = doors[-1].port
            if config.rest_api_port == config.port != AUTO:
                log.error("rest_api_port is the gRPC port: no REST", extra={"port": config.port})
            elif config.rest_api_port:
                doors.append(_rest(config, core, runner, metrics, access))
                self.rest_port = doors[-1].port
        except BaseException:
            _close_doors(doors)
            raise
        return doors

    def _close_repository(self) -> None:
        if self._repository:
            self.is_quiet = self._repository.close(self.config.drain_seconds)

    def _announce(self) -> None:
        where = _bracketed(self.config.bind_address)
        if self.grpc_port:
            log.info(f"Running gRPC ModelServer at {where}:{self.grpc_port} ...")
        if self.config.grpc_socket_path:
            log.info(f"Running gRPC ModelServer at UNIX socket {self.config.grpc_socket_path} ...")
        if self.rest_port:
            log.info(f"Exporting HTTP/REST API at:{where}:{self.rest_port} ...")
        if self.config.port_file:
            ports = {"grpc": self.grpc_port, "rest": self.rest_port}
            folders.replace_file(Path(self.config.port_file), json.dumps(ports))


def _grpc(
    config: ServerConfig, core: Core, reloader: Reloader, metrics: Metrics, access: AccessLog
) -> GrpcServer:
    as_content = config.enable_serialization_as_tensor_content
    models = ModelService(core, reloader, metrics=metrics)
    answers = {
        **PredictionService(core, metrics=metrics, as_content=as_content).answers(),
        **models.answers(),
    }
    if config.enable_profiler:
        answers |= ProfilerService().answers()
    return GrpcServer(
        answers,
        _grpc_addresses(config),
        credentials=_credentials(config),
        arguments=[
            ("grpc.max_concurrent_streams", config.grpc_max_streams),
            ("grpc.server_handshake_timeout_ms", round(config.grpc_handshake_seconds * 1000)),
            *_channel_arguments(config.grpc_channel_arguments),
        ],
        slow=models.slow_answers(),
        health=config.enable_grpc_healthcheck_service,
        threads=config.grpc_max_threads,
        max_message_bytes=config.grpc_max_message_bytes,
        drain_s=config.drain_seconds,
        access=access,
    )


def _grpc_addresses(config: ServerConfig) -> list[str]:
    addresses = []
    if config.port:
        addresses.append(f"{_bracketed(config.bind_address)}:{max(config.port, 0)}")
    if config.grpc_socket_path:
        addresses.append(f"unix:{config.grpc_socket_path}")
    return addresses


def _credentials(config: ServerConfig) -> grpc.ServerCredentials | None:
    if config.use_alts_credentials:
        return grpc.alts_server_credentials()
    if config.ssl_config_file:
        return tls.credentials(config.ssl_config_file)
    return None


def _channel_arguments(text: str) -> list[tuple[str, int | str]]:
    arguments: list[tuple[str, int | str]] = []
    for argument in text.split(","):
        if not argument:
            continue
        name, equals, value = argument.partition("=")
        if not name or not equals:
            raise InvalidArgument(
                f"grpc_channel_arguments: {argument!r} is not of the form name=value"
            )
        is_number = value.isascii() and value.removeprefix("-").isdecimal()
        arguments.append((name, int(value) if is_number else value))
    return arguments


def _rest(
    config: ServerConfig, core: Core, runner: Runner, metrics: Metrics, access: AccessLog
) -> HttpServer:
    app = RestDoor(
        core,
        runner,
        timeout_s=config.rest_api_timeout_in_ms / 1000,
        max_body_bytes=config.rest_api_max_body_bytes,
        max_inflated_bytes=config.rest_api_max_inflated_bytes,
        max_depth=config.rest_api_max_json_depth,
        cors=config.rest_api_enable_cors_support,
        metrics=metrics,
        metrics_path=_metrics_path(config.monitoring_config_file),
        access=access,
    )
    limits = Limits(
        connections=config.rest_api_max_connections,
        head_bytes=config.rest_api_max_header_bytes,
        headers=config.rest_api_max_headers,
        first_byte_s=config.rest_api_first_byte_seconds,
        head_s=config.rest_api_head_seconds,
        body_s=config.rest_api_body_seconds,
        send_s=config.rest_api_send_seconds,
        idle_s=config.rest_api_idle_seconds,
    )
    listener = _listen(config.bind_address, max(config.rest_api_port, 0))
    return HttpServer(app, listener, drain_s=config.drain_seconds, limits=limits)


def _metrics_path(file: str) -> str | None:
    """Where the monitoring config says that the metrics are shown; None where they are not."""
    if not file:
        return None
    prometheus = textfiles.load(messages.MonitoringConfig, file).prometheus_config
    if not prometheus.enable:
        return None
    return prometheus.path or PATH


def _close_doors(doors: Sequence[GrpcServer | HttpServer]) -> None:
    for door in doors:
        door.begin_stop()
    for door in doors:
        door.wait_stopped()


def _check(config: ServerConfig) -> None:
    """Raises what TF Serving rejects at its start, in its words where it has any."""
    _check_models(config)
    threads = (
        config.tensorflow_session_parallelism,
        config.tensorflow_intra_op_parallelism,
        config.tensorflow_inter_op_parallelism,
    )
    if min(threads) > 0:
        raise InvalidArgument(
            "Give tensorflow_session_parallelism, or the two it stands for, not all three"
        )
    if not config.port and not config.grpc_socket_path and not config.rest_api_port:
        raise InvalidArgument(
            "port and rest_api_port are 0 and there is no grpc_socket_path: there is no way in"
        )
    if config.batching_parameters_file and not config.enable_batching:
        raise InvalidArgument(
            "server_options.batching_parameters_file is set without setting enable_batching to "
            "true."
        )
    if config.adaptive_max_batch_rows < 1 or config.max_waiting_requests < 0:
        raise InvalidArgument(
            "adaptive_max_batch_rows must be positive, and max_waiting_requests not negative"
        )
    if config.use_alts_credentials and config.ssl_config_file:
        raise InvalidArgument("Only one of use_alts_credentials and ssl_config_file can be given")


def _check_models(config: ServerConfig) -> None:
    if config.path and (config.model_config_file or config.model_base_path or config.models_root):
        raise InvalidArgument(
            f"the path {config.path} goes without model_config_file, model_base_path and "
            "models_root"
        )
    if not config.path and not config.model_config_file and not config.model_base_path:
        raise InvalidArgument(
            "Both server_options.model_base_path and server_options.model_config_file are empty!"
        )
    if (
        config.model_base_path
        and not config.model_config_file
        and not Path(config.model_base_path).is_absolute()
    ):
        raise InvalidArgument(
            f"Expected model {config.model_name} to have an absolute path or URI; "
            f"got base_path()={config.model_base_path}"
        )


def _repository(config: ServerConfig, engine: Engine, metrics: Metrics) -> Repository:
    return Repository(
        engine,
        models_root=config.models_root or None,
        bare_models=bool(config.path),
        load_retries=config.max_num_load_retries,
        retry_interval_s=config.load_retry_interval_micros / 1e6,
        loads_at_once=config.num_load_threads,
        allow_labels_for_unavailable=config.allow_version_labels_for_unavailable_models,
        metrics=metrics,
    )


def _engine(config: ServerConfig, opened: ExitStack, metrics: Metrics) -> Engine:
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
        limits = BatchLimits(
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


def _config_watcher(config: ServerConfig, repository: Repository) -> ConfigWatcher:
    return ConfigWatcher(
        repository,
        _config_source(config),
        config_period_s=config.model_config_file_poll_wait_seconds,
        folders_period_s=config.file_system_poll_wait_seconds,
    )


def _config_source(config: ServerConfig) -> Path | ServingConfig:
    if config.path:
        is_named = config.model_name != ServerConfig().model_name
        return paths.serving_config(config.path, model_name=config.model_name if is_named else None)
    if config.model_config_file:
        return Path(config.model_config_file)
    return ServingConfig((ModelConfig(config.model_name, config.model_base_path),))


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=2048)
    except OSError as error:
        raise Unavailable(f"REST cannot listen on {address}:{port}: {error.strerror}") from error


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
