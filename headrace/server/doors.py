"""Builds the doors of a server from its config: gRPC and REST, bound to their ports."""

from __future__ import annotations

import socket

import grpc

from headrace.http.access_log import AccessLog
from headrace.http.limits import Limits
from headrace.protocol import messages
from headrace.protocol.errors import InvalidArgument, Unavailable
from headrace.server import textfiles
from headrace.server.config import ServerConfig
from headrace.server.core import Core
from headrace.server.grpc import tls
from headrace.server.grpc.listener import GrpcServer
from headrace.server.grpc.services import ModelService, PredictionService, ProfilerService
from headrace.server.lifecycle.reload import Reloader
from headrace.server.metrics import PATH, Metrics
from headrace.server.rest.door import RestDoor
from headrace.server.rest.listener import HttpServer
from headrace.server.runner import Runner

Door = GrpcServer | HttpServer


def grpc_server(
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


def rest_server(
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


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _grpc_addresses(config: ServerConfig) -> list[str]:
    addresses = []
    if config.port:
        addresses.append(f"{bracketed(config.bind_address)}:{max(config.port, 0)}")
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


def _metrics_path(file: str) -> str | None:
    """Where the monitoring config says that the metrics are shown; None where they are not."""
    if not file:
        return None
    prometheus = textfiles.load(messages.MonitoringConfig, file).prometheus_config
    if not prometheus.enable:
        return None
    return prometheus.path or PATH


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=2048)
    except OSError as error:
        raise Unavailable(f"REST cannot listen on {address}:{port}: {error.strerror}") from error
