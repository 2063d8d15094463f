"""The gRPC client, blocking and asyncio, against a small server of the same protocol on a real
port."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from headrace import AsyncClient, Client
from headrace.client import VersionStatus
from headrace.protocol import messages, tensors
from headrace.protocol.errors import (
    DeadlineExceeded,
    HeadraceError,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)

Ask = Callable[..., Any]


class Half:
    """half_plus_two as version 7: x float [-1] -> y; "strings" takes s, gives its bytes and their
    lengths."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.requests: list[Any] = []
        self.handlers = {
            messages.PREDICT: self.predict,
            messages.GET_MODEL_METADATA: self.metadata,
            messages.GET_MODEL_STATUS: self.status,
        }

    def predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        if request.model_spec.name == "slow":
            self.release.wait(30)
        response = messages.PredictResponse()
        response.model_spec.version.value = 7
        if request.model_spec.signature_name == "strings":
            strings = tensors.from_proto(request.inputs["s"])
            response.outputs["bytes"].CopyFrom(tensors.to_proto(strings))
            lengths = np.array([len(s) for s in strings], np.int64)
            response.outputs["length"].CopyFrom(tensors.to_proto(lengths))
            return response
        x = tensors.from_proto(request.inputs["x"])
        if x.ndim != 1:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "x: rank 2, expected 1")
        response.outputs["y"].CopyFrom(tensors.to_proto(x / 2 + 2, tensors.dtypes.FLOAT))
        return response

    def metadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.model_spec.name not in ("half", "slow"):
            context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: Latest({request.model_spec.name})",
            )
        definitions = messages.SignatureDefMap()
        plain = definitions.signature_def["serving_default"]
        for alias, info in (("x", plain.inputs["x"]), ("y", plain.outputs["y"])):
            info.name, info.dtype = f"{alias}:0", 1
            info.tensor_shape.dim.add(size=-1)
        strings = definitions.signature_def["strings"]
        for alias, info in (
            ("s", strings.inputs["s"]),
            ("b", strings.outputs["bytes"]),
            ("l", strings.outputs["length"]),
        ):
            info.name, info.dtype = f"{alias}:0", 9 if alias == "l" else 7
        response = messages.GetModelMetadataResponse()
        response.model_spec.name, response.model_spec.version.value = request.model_spec.name, 7
        response.metadata["signature_def"].CopyFrom(messages.pack(definitions))
        return response

    def status(self, request: Any, context: grpc.ServicerContext) -> Any:
        response = messages.GetModelStatusResponse()
        response.model_version_status.add(version=8, state=50).status.error_code = 5
        response.model_version_status[0].status.error_message = "no such file"
        response.model_version_status.add(version=7, state=30)
        return response


@pytest.fixture
def half() -> Half:
    return Half()


@pytest.fixture
def url(half: Half) -> Iterator[str]:
    pool = ThreadPoolExecutor(8)
    server = grpc.server(
        pool,
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    for method in half.handlers:
        handler = grpc.unary_unary_rpc_method_handler(
            lambda request, context, method=method: half.handlers[method](request, context),
            method.request.FromString,
            method.response.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(method.service, {method.name: handler})]
        )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    half.release.set()
    server.stop(0).wait()
    pool.shutdown()


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """One call of either client: ask(url, "predict", ...)."""
    if request.param == "blocking":

        def blocking(url: str, method: str, *args: Any, **kwargs: Any) -> Any:
            with Client(url) as client:
                return getattr(client, method)(*args, **kwargs)

        return blocking

    def waiting(url: str, method: str, *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            async with AsyncClient(url) as client:
                return await getattr(client, method)(*args, **kwargs)

        return asyncio.run(call())

    return waiting


def test_numbers_go_in_and_come_out(url: str, ask: Ask) -> None:
    outputs = ask(url, "predict", "half", [1.0, 2.0, 5.0])
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs, np.float32([2.5, 3.0, 4.5]))


@pytest.mark.parametrize("method", [("predict", "half", [1.0]), ("ready",)])
def test_a_grpc_port_called_over_http_is_reported(url: str, ask: Ask, method: Any) -> None:
    http = url.replace("grpc://", "http://")
    with pytest.raises(InvalidArgument, match=f"^{http} is a gRPC port: use {url}$"):
        ask(http, *method)


def test_strings_and_several_outputs(url: str, ask: Ask) -> None:
    outputs = ask(url, "predict", "half", ["é", b"\xff\0"], signature="strings")
    assert {name: a.tolist() for name, a in outputs.items()} == {
        "bytes": [b"\xc3\xa9", b"\xff\0"],
        "length": [2, 2],
    }


def test_a_tensor_larger_than_grpcs_own_limit(url: str, ask: Ask) -> None:
    x = np.arange(2 * 2**20, dtype=np.float32)
    np.testing.assert_array_equal(ask(url, "predict", "half", x), x / 2 + 2)


@pytest.mark.parametrize(
    ("named", "field", "value"),
    [({"version": 7}, "version", 7), ({"label": "stable"}, "version_label", "stable")],
)
def test_version_and_label_reach_the_server(
    url: str, ask: Ask, half: Half, named: dict[str, Any], field: str, value: object
) -> None:
    ask(url, "predict", "half", [1.0], **named)
    spec = half.requests[0].model_spec
    assert (spec.name, spec.signature_name, spec.WhichOneof("version_choice")) == (
        "half",
        "serving_default",
        field,
    )
    assert (spec.version.value if field == "version" else spec.version_label) == value


def test_metadata_is_signatures(url: str, ask: Ask) -> None:
    signatures = ask(url, "metadata", "half")
    assert sorted(signatures) == ["serving_default", "strings"]
    assert (
        str(signatures["serving_default"].inputs["x"].dtype),
        signatures["serving_default"].inputs["x"].shape,
    ) == (
        "float",
        (-1,),
    )


def test_status_lists_versions_with_their_reasons(url: str, ask: Ask) -> None:
    assert ask(url, "status", "half") == [
        VersionStatus(8, "END", "NOT_FOUND", "no such file"),
        VersionStatus(7, "AVAILABLE"),
    ]


def test_ready_asks_the_model(url: str, ask: Ask) -> None:
    assert ask(url, "ready", "half") is True


@pytest.mark.parametrize(
    ("method", "args", "error", "message"),
    [
        ("predict", ("half", [[1.0]]), InvalidArgument, r"^x: rank 2, expected 1$"),
        (
            "predict",
            ("nobody", [1.0]),
            NotFound,
            r"^Servable not found for request: Latest\(nobody\)$",
        ),
        ("models", (), Unimplemented, "gRPC has no call that lists models"),
        ("ready", (), Unimplemented, r"name a model: ready\(model\)"),
    ],
)
def test_errors_are_of_the_tree_with_the_servers_words(
    url: str, ask: Ask, method: str, args: tuple[Any, ...], error: type[HeadraceError], message: str
) -> None:
    with pytest.raises(error, match=message):
        ask(url, method, *args)


def test_a_refusal_that_needs_no_retry_is_sent_once(url: str, ask: Ask, half: Half) -> None:
    with pytest.raises(InvalidArgument):
        ask(url, "predict", "half", [[1.0]])
    assert len(half.requests) == 1


def test_a_slow_model_ends_at_the_timeout(url: str, ask: Ask) -> None:
    with pytest.raises(DeadlineExceeded, match=rf"^no answer from {url} within 0\.3 s$"):
        ask(url, "predict", "slow", [1.0], timeout_s=0.3)


def test_no_server_is_unavailable_with_the_address(ask: Ask) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"grpc://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Unavailable, match=rf"^cannot reach {url}: "):
            ask(url, "predict", "half", [1.0])


def test_the_servers_own_unavailable_error_is_kept(url: str, ask: Ask, half: Half) -> None:
    def full(request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNAVAILABLE, "The batch scheduling queue is full")

    half.handlers[messages.PREDICT] = full
    with pytest.raises(Unavailable, match=r"^The batch scheduling queue is full$"):
        ask(url, "predict", "half", [1.0])


@pytest.mark.parametrize(
    ("trailer", "details"),
    [
        (
            '[{"path": "/inputs/x", "expected": "float"}]',
            [{"path": "/inputs/x", "expected": "float"}],
        ),
        ('{"path": 1}', []),
        ("no json", []),
    ],
)
def test_a_gateways_details_are_kept(
    url: str, ask: Ask, half: Half, trailer: str, details: list[Any]
) -> None:
    def refuse(request: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("headrace-details", trailer),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "inputs.x: int32, expected float")

    half.handlers[messages.PREDICT] = refuse
    with pytest.raises(InvalidArgument) as caught:
        ask(url, "predict", "half", [1.0])
    assert caught.value.details == details


def test_a_closed_client_says_so(url: str) -> None:
    client = Client(url)
    client.close()
    with pytest.raises(RuntimeError, match="is closed"):
        client.predict("half", [1.0])


def test_one_client_serves_many_threads(url: str) -> None:
    with Client(url) as client, ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda i: float(client.predict("half", [float(i)])[0]), range(64)))  # type: ignore[index]
    assert outputs == [i / 2 + 2 for i in range(64)]


def test_calls_of_one_event_loop_run_side_by_side(url: str) -> None:
    async def many() -> list[Any]:
        async with AsyncClient(url) as client:
            return await asyncio.gather(*(client.predict("half", [float(i)]) for i in range(64)))

    assert [float(a[0]) for a in asyncio.run(many())] == [i / 2 + 2 for i in range(64)]
