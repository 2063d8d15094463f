"""Rejects configs that cannot be served, before anything starts."""

from __future__ import annotations

from pathlib import Path

from headrace.protocol.errors import InvalidArgument
from headrace.server.config import ServerConfig


def check(config: ServerConfig) -> None:
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
