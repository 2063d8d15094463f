"""The command line: TensorFlow Serving's 48 flags in its syntax, and ours."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from headrace.server import AUTO, ServerConfig, flags

ROOT = Path(__file__).resolve().parents[2]
TF_SERVING = """
port grpc_socket_path rest_api_port rest_api_num_threads rest_api_timeout_in_ms
rest_api_enable_cors_support enable_batching allow_version_labels_for_unavailable_models
batching_parameters_file enable_per_model_batching_parameters model_config_file
model_config_file_poll_wait_seconds model_name model_base_path num_load_threads num_unload_threads
max_num_load_retries load_retry_interval_micros file_system_poll_wait_seconds
flush_filesystem_caches tensorflow_session_parallelism tensorflow_session_config_file
tensorflow_intra_op_parallelism tensorflow_inter_op_parallelism use_alts_credentials ssl_config_file
platform_config_file per_process_gpu_memory_fraction saved_model_tags grpc_channel_arguments
grpc_max_threads enable_model_warmup num_request_iterations_for_warmup version
monitoring_config_file remove_unused_fields_from_bundle_metagraph prefer_tflite_model
num_tflite_pools num_tflite_interpreters_per_pool enable_signature_method_name_check
xla_cpu_compilation_enabled xla_gpu_compilation_enabled enable_profiler
thread_pool_factory_config_file mixed_precision skip_initialize_tpu enable_grpc_healthcheck_service
enable_serialization_as_tensor_content
""".split()


def test_every_flag_of_tensorflow_serving_is_known() -> None:
    assert len(TF_SERVING) == 48
    assert set(TF_SERVING) <= set(ServerConfig.__dataclass_fields__)


def test_defaults_are_those_of_tensorflow_serving() -> None:
    config = flags.parse([])

    assert (config.port, config.rest_api_port, config.model_name) == (8500, 0, "default")
    assert (config.rest_api_timeout_in_ms, config.saved_model_tags) == (30000, "serve")
    assert (config.file_system_poll_wait_seconds, config.model_config_file_poll_wait_seconds) == (
        1,
        0,
    )
    assert (config.max_num_load_retries, config.load_retry_interval_micros) == (5, 60_000_000)


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--port=0", "port", 0),
        ("--port=auto", "port", AUTO),
        ("--rest_api_port=auto", "rest_api_port", AUTO),
        ("--model_name=a=b", "model_name", "a=b"),
        ("--model_base_path=", "model_base_path", ""),
        ("--enable_batching", "enable_batching", True),
        ("--enable_batching=true", "enable_batching", True),
        ("--enable_profiler=false", "enable_profiler", False),
        ("--load_retry_interval_micros=-1", "load_retry_interval_micros", -1),
        ("--file_system_poll_wait_seconds=0.25", "file_system_poll_wait_seconds", 0.25),
    ],
)
def test_a_value_is_read_as_its_flag_wants_it(argument: str, name: str, value: object) -> None:
    assert getattr(flags.parse([argument]), name) == value


@pytest.mark.parametrize(
    "argument",
    ["--port=x", "--port=65536", "--port=-1", "--enable_batching=maybe", "--drain_seconds=soon"],
)
def test_a_value_that_does_not_fit_is_refused_by_name(argument: str) -> None:
    with pytest.raises(flags.FlagError, match=f"^{argument}: expected "):
        flags.parse([argument])


@pytest.mark.parametrize("argument", ["--bogus=1", "--model_name", "model_name=x", "-port=1"])
def test_an_unknown_argument_is_named_and_passed_over(argument: str) -> None:
    out = io.StringIO()

    config = flags.parse([argument, "--port=1234"], out=out)

    assert config.port == 1234
    assert out.getvalue().startswith(f"unknown argument: {argument}\nusage: ")


def test_an_argument_that_is_no_flag_is_the_path() -> None:
    assert flags.parse(["models", "--port=1234"]).path == "models"
    assert flags.parse(["--enable_batching", "lr=0.1"]).path == "lr=0.1"


@pytest.mark.parametrize(
    "argv", [["one", "two"], ["--bogus", "two"], ["--port", "two"], ["two", "--model_base_path=/x"]]
)
def test_what_is_no_path_is_an_unknown_argument(argv: list[str]) -> None:
    out = io.StringIO()

    assert flags.parse(argv, out=out).path == ("one" if "one" in argv else "")
    assert "unknown argument: two" in out.getvalue()


def test_usage_names_every_flag_with_its_default_and_what_it_does() -> None:
    text = flags.usage()

    for name, field in ServerConfig.__dataclass_fields__.items():
        assert f"--{name}=" in text
        assert field.metadata["help"] in text


def test_flags_without_effect_are_known_as_such() -> None:
    assert [f.name for f in flags.without_effect(["--platform_config_file=x", "--port=1"])] == [
        "platform_config_file"
    ]


def test_the_reference_is_the_table() -> None:
    page = ROOT / "docs" / "reference" / "serve-flags.md"

    assert page.read_text() == flags.reference(), (
        "python -m headrace.server.flags > docs/reference/serve-flags.md"
    )


@pytest.mark.parametrize(
    "argument", ["--access_log=xml", "--mixed_precision=float16", "--grpc_max_threads=2147483648"]
)
def test_a_value_out_of_its_range_is_refused(argument: str) -> None:
    with pytest.raises(flags.FlagError, match=f"^{argument}: expected "):
        flags.parse([argument])


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_flags_that_the_docs_name_exist(page: Path) -> None:
    named = set(re.findall(r"--([a-z]+(?:_[a-z]+)+)\b", page.read_text()))

    assert named <= {flag.name for flag in flags.table()}
