"""The client against real servers: gateway and `headrace serve`, REST and gRPC; one answer
whichever way it goes."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace import AsyncClient, Client, cli
from headrace.protocol.errors import (
    DeadlineExceeded,
    HeadraceError,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)
from tests.integration.conftest import Stack, running, wait_for

DOORS = ["gateway http", "gateway grpc", "serving http", "serving grpc"]


def address(stack: Stack, door: str) -> str:
    return {
        "gateway http": stack.http,
        "gateway grpc": f"grpc://{stack.grpc}",
        "serving http": stack.direct,
        "serving grpc": f"grpc://127.0.0.1:{stack.serving.ports['grpc']}",
    }[door]


@pytest.fixture(params=DOORS)
def url(request: pytest.FixtureRequest, stack: Stack) -> str:
    return address(stack, request.param)


@pytest.fixture
def client(url: str):
    with Client(url) as client:
        yield client


def test_a_known_answer(client: Client) -> None:
    outputs = client.predict("half_plus_two", [[1.0], [2.0], [5.0]])
    assert isinstance(outputs, np.ndarray)
    assert (outputs.dtype, outputs.tolist()) == (np.float32, [[2.5], [3.0], [4.5]])


@pytest.mark.parametrize("verb", ["predict", "metadata", "status"])
def test_a_version_that_is_not_there_is_told_with_those_that_are(client: Client, verb: str) -> None:
    inputs = ([[1.0]],) if verb == "predict" else ()
    with pytest.raises(NotFound, match=r"^half_plus_two: no version 9; available: 123$"):
        getattr(client, verb)("half_plus_two", *inputs, version=9)


def test_the_list_of_models_is_the_same_from_gateway_and_server(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["models", "--url", stack.http]) == 0
    from_gateway = capsys.readouterr().out
    assert cli.main(["models", "--url", stack.direct]) == 0
    assert capsys.readouterr().out == from_gateway
    assert "half_plus_two  AVAILABLE  version 123\n" in from_gateway


def test_the_wrong_protocol_for_a_port_is_told_with_the_right_one(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, right, wrong = (
        ("a gRPC", "grpc", "http") if url.startswith("grpc") else ("an HTTP", "http", "grpc")
    )
    address = url.partition("://")[2]
    assert (
        cli.main(["predict", "half_plus_two", "--data", "[[1.0]]", "--url", f"{wrong}://{address}"])
        == 1
    )
    message = f"{wrong}://{address} is {kind} port: use {right}://{address}"
    assert capsys.readouterr().err == f"headrace: {message}\n"

    async def ask() -> None:
        async with AsyncClient(f"{wrong}://{address}") as client:
            await client.ready("half_plus_two")

    with pytest.raises(InvalidArgument, match=f"^{message}$"):
        asyncio.run(ask())


def test_images_answer_the_same_through_every_door(client: Client, stack: Stack) -> None:
    images = np.random.default_rng(1).random((32, 28, 28, 1))
    with Client(address(stack, "serving grpc")) as direct:
        expected = direct.predict("mnist_cnn", images)
    outputs = client.predict("mnist_cnn", images)
    assert isinstance(outputs, np.ndarray)
    assert (outputs.dtype, outputs.shape) == (np.float32, (32, 10))
    # JSON answers carry six digits where those read back to the same float, so nothing is lost.
    np.testing.assert_allclose(outputs, expected, rtol=1e-6, atol=1e-9)


def test_strings_and_several_tensors(client: Client) -> None:
    outputs = client.predict(
        "two_in_two_out", {"int_t": [[1, 2], [3, 4]], "str_t": [["a", "é"], [b"", "d"]]}
    )
    assert isinstance(outputs, dict)
    assert {name: a.tolist() for name, a in outputs.items()} == {
        "int_o": [[1, 2], [3, 4]],
        "str_o": [[b"a", "é".encode()], [b"", b"d"]],
    }
    assert outputs["int_o"].dtype == np.int32


def test_a_version_is_chosen(client: Client) -> None:
    assert client.predict("half_plus_two", [[1.0]], version=123) == np.float32([[2.5]])


def test_another_signature_is_chosen(client: Client) -> None:
    assert client.predict("half_plus_two", [[1.0]], signature="regress_x2_to_y3") == np.float32(
        [[3.5]]
    )


def test_metadata_and_status_are_the_same_through_every_door(client: Client, stack: Stack) -> None:
    with Client(address(stack, "serving grpc")) as direct:
        for model in ("half_plus_two", "mnist_cnn", "ident_string"):
            assert client.metadata(model) == direct.metadata(model)
            assert client.status(model) == direct.status(model)
    assert client.status("half_plus_two")[0].state == "AVAILABLE"


def test_a_model_is_ready_or_not(client: Client) -> None:
    assert (client.ready("mnist_cnn"), client.ready("nobody")) == (True, False)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        pytest.param({"model": "nobody", "inputs": [1.0]}, NotFound, id="unknown model"),
        pytest.param(
            {"model": "half_plus_two", "inputs": [[1.0]], "version": 9},
            NotFound,
            id="unknown version",
        ),
        pytest.param(
            {"model": "half_plus_two", "inputs": [[1.0]], "label": "x"},
            InvalidArgument,
            id="unknown label",
        ),
        pytest.param(
            {"model": "half_plus_two", "inputs": [[1.0]], "signature": "x"},
            InvalidArgument,
            id="unknown signature",
        ),
        pytest.param(
            {"model": "half_plus_two", "inputs": {"z": [[1.0]]}},
            InvalidArgument,
            id="unknown input",
        ),
        pytest.param(
            {"model": "two_in_two_out", "inputs": {"int_t": [1]}},
            InvalidArgument,
            id="missing input",
        ),
        pytest.param(
            {"model": "half_plus_two", "inputs": [["a"]]}, InvalidArgument, id="wrong dtype"
        ),
        pytest.param(
            {"model": "half_plus_two", "inputs": [[1.0], [2.0, 3.0]]}, InvalidArgument, id="ragged"
        ),
        pytest.param(
            {"model": "mnist_cnn", "inputs": np.ones((28, 28))}, InvalidArgument, id="wrong rank"
        ),
        pytest.param(
            {"model": "mnist_cnn", "inputs": np.ones((1, 28, 27, 1))},
            InvalidArgument,
            id="wrong dimension",
        ),
        pytest.param(
            {"model": "asserts", "inputs": [-1.0]}, InvalidArgument, id="refused by the graph"
        ),
    ],
)
def test_a_mistake_is_an_error_of_the_tree(
    client: Client, arguments: dict[str, Any], kind: type[HeadraceError]
) -> None:
    with pytest.raises(kind) as caught:
        client.predict(**arguments)
    assert caught.value.message
    assert client.ready("mnist_cnn")


def test_the_gateway_says_the_place_of_a_fault(stack: Stack) -> None:
    with Client(stack.http) as client, pytest.raises(InvalidArgument) as caught:
        client.predict("mnist_cnn", np.ones((2, 28, 27, 1)))
    assert "(28, 27, 1)" in caught.value.message
    assert caught.value.details
    assert {"path", "expected", "got"} <= caught.value.details[0].keys()


def test_the_gateway_lists_models_and_is_ready(stack: Stack) -> None:
    with Client(stack.http) as client:
        assert {m["name"] for m in client.models()} >= {"half_plus_two", "mnist_cnn"}
        assert client.ready() is True
    with Client(f"grpc://{stack.grpc}") as client, pytest.raises(Unimplemented):
        client.models()


def test_a_slow_model_ends_at_the_timeout(url: str) -> None:
    with Client(url) as client:
        client.metadata("slow")
        started = time.monotonic()
        # The server has the same deadline: either end may be the first to notice.
        with pytest.raises(DeadlineExceeded, match=r"within 0\.3 s|waiting for notification"):
            client.predict("slow", [1e6], timeout_s=0.3)
        assert time.monotonic() - started < 2


def test_calls_of_an_event_loop(url: str) -> None:
    async def many() -> list[Any]:
        async with AsyncClient(url) as client:
            assert await client.ready("half_plus_two")
            calls = (client.predict("half_plus_two", [[float(i)]]) for i in range(32))
            return await asyncio.gather(*calls)

    assert [float(a[0, 0]) for a in asyncio.run(many())] == [i / 2 + 2 for i in range(32)]


def test_the_command_line_predicts(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "half_plus_two", "--data", "[[1], [2]]", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out) == [[2.5], [3.0]]
    assert cli.main(["status", "half_plus_two", "--url", url]) == 0
    assert capsys.readouterr().out == "half_plus_two  version 123  AVAILABLE\n"


def test_the_command_line_lists_models(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--url", stack.http]) == 0
    out = capsys.readouterr().out
    assert (
        "mnist_cnn  AVAILABLE  version 1\n  serving_default: x float [?, 28, 28, 1] -> y float "
        "[?, 10]\n" in out
    )


@pytest.mark.parametrize("door", DOORS)
def test_a_swap_to_another_signature_loses_no_call(
    tmp_path: Path, contract_models: Path, door: str
) -> None:
    """A running client meets a version whose signature is another: it learns it, and no call is
    lost on the way."""
    with (
        running(tmp_path, contract_models, ("half_plus_two",)) as stack,
        Client(address(stack, door)) as client,
    ):
        stop = threading.Event()

        def call() -> tuple[int, int]:
            """How many calls were answered by the old and by the new version."""
            old = new = 0
            while not stop.is_set():
                try:
                    client.predict("half_plus_two", [[1.0]])
                    old += 1
                except InvalidArgument:  # of the client, when it has learned the new signature
                    client.predict("half_plus_two", {"int_t": [1], "str_t": ["a"]})
                    new += 1
            return old, new

        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(call) for _ in range(2)]
            try:
                stack.publish("half_plus_two", contract_models / "two_in_two_out" / "1", 124)
                wait_for(
                    lambda: _live(client) == [124], within_s=20, what="version 124 is the only one"
                )
                wait_for(lambda: "int_t" in _inputs(client), within_s=20, what="the new signature")
                outputs = client.predict("half_plus_two", {"int_t": [7], "str_t": ["z"]})
            finally:
                stop.set()
            counts = [c.result() for c in calls]
    assert isinstance(outputs, dict)
    assert outputs["int_o"].tolist() == [7]
    assert sum(old for old, _ in counts) > 0


def test_a_server_that_comes_back_is_found(tmp_path: Path, contract_models: Path) -> None:
    with running(tmp_path, contract_models, ("half_plus_two",)) as stack:
        with (
            Client(address(stack, "serving http")) as rest,
            Client(address(stack, "serving grpc")) as grpc,
        ):
            assert rest.ready("half_plus_two") and grpc.ready("half_plus_two")
            stack.serving.signal(signal.SIGKILL)
            stack.serving.wait()
            for client in (rest, grpc):
                with pytest.raises(Unavailable):
                    client.predict("half_plus_two", [[1.0]])
                assert client.ready("half_plus_two") is False
            stack.serving.start()
            for client in (rest, grpc):
                wait_for(
                    lambda c=client: c.ready("half_plus_two"),
                    within_s=5,
                    what=f"{client} finds the server",
                )
                assert client.predict("half_plus_two", [[1.0]]) == np.float32([[2.5]])


def _live(client: Client) -> list[int]:
    return [v.version for v in client.status("half_plus_two") if v.state == "AVAILABLE"]


def _inputs(client: Client) -> list[str]:
    return list(client.metadata("half_plus_two")["serving_default"].inputs)
