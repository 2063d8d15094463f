"""The server: builds its parts from a config, opens the ports, and closes everything in order."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from headrace.http.access_log import AccessLog
from headrace.server import config_check, engine_layers, paths
from headrace.server.config import AUTO, ServerConfig
from headrace.server.core import Core
from headrace.server.doors import Door, bracketed, grpc_server, rest_server
from headrace.server.engines import Engine
from headrace.server.lifecycle.config_watcher import ConfigWatcher
from headrace.server.lifecycle.reload import Reloader
from headrace.server.lifecycle.repository import Repository
from headrace.server.metrics import Metrics
from headrace.server.runner import Runner
from headrace.store import folders
from headrace.store.model_list import ModelConfig, ServingConfig

log = logging.getLogger(__name__)


class Server:
    """``with Server(config) as server:`` serves. Models load in the background;
    ``wait_until_ready`` waits for them."""

    def __init__(self, config: ServerConfig) -> None:
        config_check.check(config)
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
        engine = engine_layers.build(config, opened, metrics)
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
        access.start()
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
    ) -> list[Door]:
        """gRPC and REST, bound to their ports but not started: a port that is taken shows before
        anything starts."""
        config = self.config
        doors: list[Door] = []
        try:
            if config.port or config.grpc_socket_path:
                doors.append(grpc_server(config, core, reloader, metrics, access))
                self.grpc_port = doors[-1].port
            if config.rest_api_port == config.port != AUTO:
                log.error("rest_api_port is the gRPC port: no REST", extra={"port": config.port})
            elif config.rest_api_port:
                doors.append(rest_server(config, core, runner, metrics, access))
                self.rest_port = doors[-1].port
        except BaseException:
            _close_doors(doors)
            raise
        return doors

    def _close_repository(self) -> None:
        if self._repository:
            self.is_quiet = self._repository.close(self.config.drain_seconds)

    def _announce(self) -> None:
        where = bracketed(self.config.bind_address)
        if self.grpc_port:
            log.info(f"Running gRPC ModelServer at {where}:{self.grpc_port} ...")
        if self.config.grpc_socket_path:
            log.info(f"Running gRPC ModelServer at UNIX socket {self.config.grpc_socket_path} ...")
        if self.rest_port:
            log.info(f"Exporting HTTP/REST API at:{where}:{self.rest_port} ...")
        if self.config.port_file:
            ports = {"grpc": self.grpc_port, "rest": self.rest_port}
            folders.replace_file(Path(self.config.port_file), json.dumps(ports))


def _close_doors(doors: Sequence[Door]) -> None:
    for door in doors:
        door.begin_stop()
    for door in doors:
        door.wait_stopped()


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
