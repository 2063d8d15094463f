"""The settings of the local runtime."""

from __future__ import annotations

import pytest

from deploy.local import local_settings
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
