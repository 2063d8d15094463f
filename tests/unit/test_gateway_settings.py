from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from gateway.settings import Settings, describe, reference
from headrace.protocol.errors import InvalidArgument
from headrace.settings import variable

ROOT = Path(__file__).parents[2]


def test_defaults_hold_without_any_variable():
    assert Settings.from_env({"PATH": "/bin"}) == Settings()


def test_values_are_read_by_kind():
    made = Settings.from_env(
        {
            "HEADRACE_HTTP_PORT": "0",
            "HEADRACE_TIMEOUT_S": "2.5",
            "HEADRACE_ACCESS_LOG": "off",
            "HEADRACE_LENIENT_MODELS": "a, b,",
        }
    )
    assert (made.http_port, made.timeout_s, made.access_log, made.lenient_models) == (
        0,
        2.5,
        False,
        ("a", "b"),
    )


def test_an_unknown_name_is_refused_with_the_near_one():
    with pytest.raises(
        InvalidArgument,
        match="HEADRACE_HTTP_PROT is not a setting; did you mean HEADRACE_HTTP_PORT",
    ):
        Settings.from_env({"HEADRACE_HTTP_PROT": "1"})


def test_names_of_the_rest_of_the_stack_are_let_through():
    assert (
        Settings.from_env({"HEADRACE_STORE": "models", "HEADRACE_SERVING_REST_PORT": "1"})
        == Settings()
    )
    assert (
        Settings.from_env(
            {"HEADRACE_URL": "u", "HEADRACE_GATEWAY": "g", "HEADRACE_LIVE_TIMEOUT_S": "1"}
        )
        == Settings()
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HTTP_PORT", "eight", "expected a whole number"),
        ("HTTP_PORT", "70000", "expected a port"),
        ("TIMEOUT_S", "nan", "expected a number"),
        ("TIMEOUT_S", "0", "expected more than 0"),
        ("ACCESS_LOG", "maybe", "expected 1 or 0"),
        ("UPSTREAM_REST", "127.0.0.1:8501", "like http://"),
        ("UPSTREAM_REST", "http://x:99999", "like http://"),
        ("UPSTREAM_GRPC", "127.0.0.1", "like 127.0.0.1:8500"),
        ("LOG_LEVEL", "loud", "one of debug"),
        ("UPSTREAM_PROTOCOL", "soap", "auto, rest or grpc"),
        ("WORKERS", "-1", "0 to 256, or auto"),
        ("WORKERS", "many", "expected a whole number"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_name(name, value, said):
    with pytest.raises(InvalidArgument, match=f"HEADRACE_{name}.*{said}"):
        Settings.from_env({f"HEADRACE_{name}": value})


def test_help_lists_every_setting_with_its_sentence():
    text = describe()
    for f in fields(Settings):
        assert variable(f.name) in text
        assert f.metadata["help"].endswith(".") and f.metadata["help"] in text


def test_the_page_of_settings_is_what_the_class_says():
    page = ROOT / "docs" / "reference" / "settings.md"
    assert page.read_text() == reference(), (
        "python -m gateway --settings > docs/reference/settings.md"
    )


def test_auto_is_a_worker_a_core():
    assert Settings.from_env({"HEADRACE_WORKERS": "auto"}).workers == 0


def _gateway(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        env={**plain, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_check_names_line_and_column_of_a_broken_model_list(tmp_path):
    config = tmp_path / "multimodel.config"
    config.write_text("model_config_list {\n  config { nam: 'x' }\n}\n")
    done = _gateway("--check", HEADRACE_MODEL_CONFIG_FILE=str(config))
    assert done.returncode == 2
    assert f"{config}:2:" in done.stderr


def test_check_says_that_the_backend_is_away_and_what_to_do():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers here
        port = taken.getsockname()[1]
        done = _gateway(
            "--check",
            HEADRACE_MODEL_CONFIG_FILE="multimodel.config",
            HEADRACE_LENIENT_MODELS="mnist_cnn,nobody",
            HEADRACE_UPSTREAM_REST=f"http://127.0.0.1:{port}",
            HEADRACE_UPSTREAM_GRPC=f"127.0.0.1:{port}",
        )
    assert (done.returncode, done.stderr) == (1, "")
    assert "settings are good; 6 models: half_plus_two" in done.stdout
    assert 'HEADRACE_LENIENT_MODELS names "nobody"' in done.stdout
    assert f"backend http://127.0.0.1:{port}: the serving backend" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("next: start the serving backend")


def test_check_of_a_model_list_that_is_not_there_names_the_setting(tmp_path):
    done = _gateway("--check", HEADRACE_MODEL_CONFIG_FILE=str(tmp_path / "none"))
    assert done.returncode == 2
    assert "No such file" in done.stderr and "HEADRACE_MODEL_CONFIG_FILE" in done.stderr


def test_a_wrong_setting_ends_the_start_with_one_sentence():
    done = _gateway(HEADRACE_GRPC_PROT="1")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "HEADRACE_GRPC_PORT" in done.stderr


def test_import_is_light_and_free_of_tensorflow():
    # VmHWM, because getrusage's peak is inherited from the process that started this one.
    probe = (
        "import re, sys, time, gateway.app; print(time.process_time(),"
        "re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], 'tensorflow' in "
        "sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, kilobytes, tensorflow = done.stdout.split()
    assert tensorflow == "False"
    assert float(seconds) <= 1.5
    assert int(kilobytes) <= 100 * 1024
