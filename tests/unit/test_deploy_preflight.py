"""What `make up` looks at before it touches anything."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from deploy.compose.compose_settings import check_serving
from deploy.preflight import Door, check_ports, check_settings
from deploy.terminal import Stop


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HEADRACE_TIMEOUT_S": "abc"}, "HEADRACE_TIMEOUT_S='abc': expected a number"),
        ({"HEADRACE_WORKERS": "300"}, "HEADRACE_WORKERS=300: expected 0 to 256"),
        (
            {"HEADRACE_TIMOUT_S": "1"},
            "HEADRACE_TIMOUT_S is not a setting; did you mean HEADRACE_TIMEOUT_S",
        ),
        ({"HEADRACE_LIVE_TIMEOUT_S": "x"}, "HEADRACE_LIVE_TIMEOUT_S=x: expected seconds"),
    ],
)
def test_a_setting_that_a_program_would_end_over_is_told(
    environ: dict[str, str], said: str
) -> None:
    with pytest.raises(Stop, match=said):
        check_settings(environ, environ)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEADRACE_CONFIG_POLL_S", "1.5"),
        ("HEADRACE_VERSION_POLL_S", "soon"),
        ("HEADRACE_GPU_MEMORY_FRACTION", "half"),
    ],
)
def test_a_flag_that_serving_would_end_over_is_told(name: str, value: str) -> None:
    with pytest.raises(Stop, match=f"{name}={value}: expected"):
        check_serving({name: value})


def test_flags_that_fit_are_let_through() -> None:
    check_serving(
        {
            "HEADRACE_CONFIG_POLL_S": "",
            "HEADRACE_VERSION_POLL_S": "-1",
            "HEADRACE_GPU_MEMORY_FRACTION": ".5",
        }
    )


def test_a_taken_port_is_told_with_its_variable_and_a_free_one(taken: int) -> None:
    with pytest.raises(
        Stop, match=rf"Port {taken} on 127.0.0.1 .* it is taken.* make up HEADRACE_HTTP_PORT=\d+"
    ):
        check_ports([Door("HEADRACE_HTTP_PORT", "127.0.0.1", taken)], own=())


@pytest.mark.parametrize(
    ("own", "host"),
    [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")],
)
def test_a_port_of_the_running_stack_is_free_for_it(taken: int, own: str, host: str) -> None:
    check_ports([Door("HEADRACE_HTTP_PORT", host, taken)], own={(own, taken)})


def test_an_address_that_this_machine_has_not_is_told() -> None:
    with pytest.raises(Stop, match=r"HEADRACE_BIND_ADDRESS=192\.0\.2\.1 cannot be listened on"):
        check_ports([Door("HEADRACE_HTTP_PORT", "192.0.2.1", 8000)], own={("0.0.0.0", 8000)})
