"""The parts of the local runtime that need no stack: settings, comparing answers."""

from __future__ import annotations

import os
import pwd
import re
import tempfile
from pathlib import Path

import pytest

from deploy.file_lock import exclusive
from deploy.local import local_settings
from deploy.local.supervisor import configuration
from deploy.readiness import is_settled
from deploy.smoke import close
from deploy.terminal import Stop


def test_empty_variables_count_as_unset():
    assert (
        local_settings.from_environment({"HEADRACE_HTTP_PORT": "", "HEADRACE_STORE": ""})
        == local_settings.LocalSettings()
    )


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "nan", "8000.5x"])
def test_what_is_no_port_is_refused(text):
    with pytest.raises(Stop, match=f"HEADRACE_GRPC_PORT={text}"):
        local_settings.from_environment({"HEADRACE_GRPC_PORT": text})


def test_one_port_for_two_doors_is_refused():
    with pytest.raises(Stop, match="HEADRACE_HTTP_PORT and HEADRACE_GRPC_PORT are both 9000"):
        local_settings.from_environment(
            {"HEADRACE_HTTP_PORT": "9000", "HEADRACE_GRPC_PORT": "9000"}
        )


def test_the_gateway_gets_its_settings_and_not_the_runtimes():
    others = {"HEADRACE_URL": "http://x", "HEADRACE_GATEWAY": "http://y", "MAKEFLAGS": "w"}
    given = {"HEADRACE_STORE": "/s", "HEADRACE_TIMEOUT_S": "7", "PATH": "/bin", **others}
    passed = local_settings.from_environment(given).service_environment(given)
    assert passed["HEADRACE_TIMEOUT_S"] == "7"
    assert passed["HEADRACE_MODEL_CONFIG_FILE"] == "/s/multimodel.config"
    assert passed["PATH"] == "/bin"
    assert not {"HEADRACE_STORE", *others} & passed.keys()


@pytest.fixture
def others_folder():
    """A folder that everybody may enter, and the lock of another user in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "lock").touch(mode=0o444)
        if os.getuid():
            yield folder
            return
        os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(0)


def test_a_lock_of_another_user_says_whose_it_is(others_folder):
    me = pwd.getpwuid(os.getuid()).pw_name
    whose = re.escape(f"{others_folder}/lock cannot be written: it belongs to {me}. Name another.")
    with (
        pytest.raises(Stop, match=f"^{whose}$"),
        exclusive(others_folder / "lock", advice="Name another."),
    ):
        pass


@pytest.mark.skipif(os.getuid() != 0, reason="everybody may write into a folder of their own")
def test_a_folder_of_another_user_says_whose_it_is(others_folder):
    with (
        pytest.raises(Stop, match=f"{others_folder} belongs to root"),
        exclusive(others_folder / "run" / "lock"),
    ):
        pass


@pytest.mark.parametrize(
    ("reason", "settled"),
    [
        ("no model is configured", True),
        ("no model is AVAILABLE", True),
        ("still loading: m", False),
    ],
)
def test_more_time_is_advised_where_it_helps(reason, settled):
    assert is_settled(reason) is settled


def test_supervisor_reads_paths_with_blanks_and_signs_of_percent(tmp_path):
    from supervisor.options import ServerOptions

    odd = tmp_path / "100% my; store"
    here = local_settings.from_environment(
        {"HEADRACE_STORE": str(odd), "HEADRACE_RUN": str(tmp_path / "a run%d")}
    )
    here.logs.mkdir(parents=True)
    conf = tmp_path / "supervisord.conf"
    conf.write_text(configuration(here, here.run / "sock", here.run / "pid"))
    options = ServerOptions()
    options.realize(["-c", str(conf)], doc="")
    (serving,) = (
        g.process_configs[0] for g in options.process_group_configs if g.name == "serving"
    )
    assert f"'--models_root={odd}'" in serving.command
    assert serving.stdout_logfile == str(here.logs / "serving.log")


@pytest.mark.parametrize(
    ("wanted", "got", "alike"),
    [
        ([2.5, 3.0], [2.5, 3], True),
        ([2.5], [2.5004], True),
        ([2.5], [2.6], False),
        ([2.5], [2.5, 2.5], False),
        ({"a": [1.0]}, {"a": [1.0]}, True),
        ({"a": [1.0]}, {"b": [1.0]}, False),
        ([1.0], ["NaN"], False),
        (["x"], ["x"], True),
    ],
)
def test_smoke_compares_answers_but_for_the_last_digits(wanted, got, alike):
    assert close(wanted, got) is alike
