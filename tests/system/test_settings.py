"""Settings that are wrong leave the containers that run as they are."""

from __future__ import annotations

import socket

import pytest

from deploy.terminal import Stop
from tests.system.project import Compose


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HEADRACE_TIMEOUT_S", "abc", "HEADRACE_TIMEOUT_S='abc': expected a number"),
        ("HEADRACE_TIMOUT_S", "5", "did you mean HEADRACE_TIMEOUT_S"),
        ("HEADRACE_BIND_ADDRESS", "192.0.2.1", "HEADRACE_BIND_ADDRESS"),
        ("HEADRACE_CONFIG_POLL_S", "soon", "HEADRACE_CONFIG_POLL_S=soon"),
        ("HEADRACE_GATEWAY_MEMORY", "much", "memory"),
    ],
)
def test_a_wrong_setting_leaves_the_containers_alone(
    stack: Compose, name: str, value: str, said: str
) -> None:
    before = stack.running()
    ports = {"HEADRACE_HTTP_PORT": stack.address().rpartition(":")[2]}
    with pytest.raises(Stop, match=said):
        stack.stack(**ports, **{name: value}).up()
    assert stack.running() == before
    assert stack.predicts()


def test_a_taken_port_leaves_the_containers_alone(stack: Compose) -> None:
    before = stack.running()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = str(other.getsockname()[1])
        with pytest.raises(Stop, match=f"Port {port} on 127.0.0.1 cannot be had: it is taken"):
            stack.stack(HEADRACE_GRPC_PORT=port).up()
    assert stack.running() == before


def test_settings_that_are_right_are_taken_over_and_the_ports_in_use_count_as_free(
    stack: Compose,
) -> None:
    http, grpc = (stack.address(port=port).rpartition(":")[2] for port in (8000, 8001))
    mine = stack.stack(
        HEADRACE_HTTP_PORT=http, HEADRACE_GRPC_PORT=grpc, HEADRACE_LIVE_TIMEOUT_S="30"
    )
    before = stack.running()
    mine.up()
    assert stack.running() != before  # their ports are fixed now
    mine.check()
    assert stack.predicts()
