"""Every case of the table, to both doors; and that they are as well as before."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import grpc
import pytest

from tests.abuse.calls import CALLS, Call
from tests.abuse.cases import CASES, GOOD, Case, post
from tests.abuse.conftest import Doors
from tests.abuse.frames import FRAMES, Frames, play
from tests.abuse.watch import assert_well, descriptors, settles
from tests.abuse.wire import converse

DOORS = ("server", "gateway")


@pytest.fixture(scope="module", autouse=True)
def doors_stay_well(doors: Doors) -> Iterator[None]:
    for name in DOORS:
        assert_well(doors[name])
    before = {name: descriptors(doors[name]) for name in DOORS}
    yield
    for name in DOORS:
        assert_well(doors[name])
        assert "Traceback" not in doors[name].said()
        settles(doors[name], before[name] + 8)  # gRPC's channels and the gateway's pool


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_comes_back_over_a_socket(doors: Doors, case: Case, door: str) -> None:
    assert converse(doors[door].rest_port, case.parts, probed=case.probed).told == getattr(
        case, door
    )


@pytest.mark.parametrize("door", DOORS)
def test_a_caller_that_leaves_with_requests_in_line_leaves_no_trace(
    doors: Doors, door: str
) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", doors[door].rest_port)) as connection:
            connection.sendall(post(GOOD) * 20)
            connection.recv(1)
    assert_well(doors[door])
    assert "handler is closed" not in doors[door].said()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "call", [pytest.param(c, id=c.what, marks=[pytest.mark.long] if c.long else []) for c in CALLS]
)
def test_the_code_of_a_call(doors: Doors, call: Call, door: str) -> None:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{doors[door].grpc_port}", options=options) as channel:
        try:
            channel.unary_unary(call.path)(call.request(), timeout=30)
            code = "OK"
        except grpc.RpcError as error:
            code = error.code().name
    assert code == getattr(call, door)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("sent", FRAMES, ids=lambda sent: sent.what)
def test_frames_to_the_grpc_port(doors: Doors, sent: Frames, door: str) -> None:
    assert play(doors[door].grpc_port, sent.data) == sent.told


def test_no_answer_is_a_server_error() -> None:
    """501 apart, which is TensorFlow Serving's for a method it does not know."""
    told = {
        word.strip(",") for case in CASES for door in DOORS for word in getattr(case, door).split()
    }
    assert not {word for word in told if word.startswith("5")} - {"501"}
