"""The REST client, blocking and asyncio, against a small HTTP server that says what TensorFlow
Serving says."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from headrace import AsyncClient, Client
from headrace.client import VersionStatus
from headrace.protocol.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    HeadraceError,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
    Unknown,
)

Ask = Callable[..., Any]

FLOAT, STRING, INT64, HALF = "DT_FLOAT", "DT_STRING", "DT_INT64", "DT_HALF"


def tensor(dtype: str, *dims: int) -> dict[str, Any]:
    shape = {"dim": [{"size": str(d), "name": ""} for d in dims], "unknown_rank": False}
    return {"name": "t:0", "dtype": dtype, "tensor_shape": shape}


def metadata(version: int, **signatures: Any) -> str:
    named = {
        name: {
            "inputs": i,
            "outputs": o,
            "method_name": "tensorflow/serving/predict",
            "defaults": {},
        }
        for name, (i, o) in signatures.items()
    }
    spec = {"name": "half", "version": str(version), "signature_name": ""}
    return json.dumps({"model_spec": spec, "metadata": {"signature_def": {"signature_def": named}}})


SIGNATURES = metadata(
    7,
    serving_default=({"x": tensor(FLOAT, -1)}, {"y": tensor(FLOAT, -1)}),
    image=({"i": tensor(FLOAT, -1, 2, 2)}, {"p": tensor(FLOAT, -1, 3)}),
    strings=(
        {"s": tensor(STRING, -1)},
        {"out_bytes": tensor(STRING, -1), "length": tensor(INT64, -1)},
    ),
    total=({"x": tensor(FLOAT, -1)}, {"sum": tensor(FLOAT)}),
    half=({"h": tensor(HALF, -1)}, {"y": tensor(FLOAT, -1)}),
)
STATUS = json.dumps(
    {
        "model_version_status": [
            {
                "version": "8",
                "state": "END",
                "status": {"error_code": "NOT_FOUND", "error_message": "no such file"},
            },
            {
                "version": "7",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            },
        ]
    }
)


def error(text: str, **more: Any) -> str:
    return json.dumps({"error": text, **more}, indent=4)


class Fake:
    """Answers by path: (status, body), or a function of the request's JSON that gives one.
    Remembers requests."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.requests: list[tuple[str, Any]] = []
        self.peers: set[Any] = set()
        self.answers: dict[str, Any] = {
            "/v1/models/half/metadata": (200, SIGNATURES),
            "/v1/models/half": (200, STATUS),
            "/v1/models/half:predict": lambda body: (200, json.dumps(self.predict(body))),
        }

    def predict(self, body: Any) -> Any:
        match body.get("signature_name", ""):
            case "" | "serving_default":
                return {"predictions": [x / 2 + 2 for x in body["instances"]]}
            case "image":
                return {"predictions": [[i[0][0], i[1][1], 0.1] for i in body["instances"]]}
            case "strings":
                texts = body["inputs"]["s"] if isinstance(body["inputs"], dict) else body["inputs"]
                return {"outputs": {"out_bytes": texts, "length": [2**53 + 1] * len(texts)}}
            case "total":
                x = body["inputs"]["x"] if isinstance(body["inputs"], dict) else body["inputs"]
                return {"outputs": sum(x)}


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def url(fake: Fake) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(None)

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, body: Any) -> None:
            fake.requests.append((self.path, body))
            fake.peers.add(self.client_address)
            response = fake.answers.get(self.path, (404, error("Not found")))
            status, text = response(body) if callable(response) else response
            data = text if isinstance(text, bytes) else text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *args: Any) -> None:
            pass  # clients that went away

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        fake.release.set()
        server.shutdown()
        thread.join()


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


def test_rows_keep_their_shape_and_their_floats(url: str, ask: Ask) -> None:
    images = np.float32([[[0.1, 0], [0, 16777217]], [[1e-30, 0], [0, -0.0]]])
    outputs = ask(url, "predict", "half", images, signature="image")
    np.testing.assert_array_equal(outputs, np.float32([[0.1, 16777217, 0.1], [1e-30, 0, 0.1]]))


def test_strings_and_several_outputs(url: str, ask: Ask) -> None:
    outputs = ask(url, "predict", "half", ["é", b"\xff\0"], signature="strings")
    assert {name: a.tolist() for name, a in outputs.items()} == {
        "out_bytes": ["é".encode(), b"\xff\0"],
        "length": [2**53 + 1, 2**53 + 1],
    }
    assert outputs["length"].dtype == np.int64


def test_a_scalar_output_is_asked_for_in_columns(url: str, ask: Ask) -> None:
    outputs = ask(url, "predict", "half", [1.0, 2.5], signature="total")
    assert (outputs.shape, outputs.dtype, outputs) == ((), np.float32, 3.5)


def test_an_empty_answer_has_the_signatures_inner_shape(url: str, ask: Ask, fake: Fake) -> None:
    fake.answers["/v1/models/half:predict"] = (200, '{"predictions": []}')
    outputs = ask(url, "predict", "half", np.ones((1, 2, 2)), signature="image")
    assert (outputs.shape, outputs.dtype) == ((0, 3), np.float32)


@pytest.mark.parametrize(
    ("named", "path"),
    [
        ({"version": 7}, "/v1/models/a%2Fb%20%C3%A9/versions/7"),
        ({"label": "x:y"}, "/v1/models/a%2Fb%20%C3%A9/labels/x%3Ay"),
    ],
)
def test_names_are_escaped_in_paths(
    url: str, ask: Ask, fake: Fake, named: dict[str, Any], path: str
) -> None:
    fake.answers[f"{path}/metadata"] = (200, SIGNATURES)
    fake.answers[f"{path}:predict"] = fake.answers["/v1/models/half:predict"]
    np.testing.assert_array_equal(ask(url, "predict", "a/b é", [1.0], **named), [2.5])


def test_a_server_under_a_prefix(url: str, ask: Ask, fake: Fake) -> None:
    fake.answers["/team/v1/models/half"] = (200, STATUS)
    assert ask(f"{url}/team/", "ready", "half") is True


def test_metadata_is_signatures(url: str, ask: Ask) -> None:
    signatures = ask(url, "metadata", "half")
    image = signatures["image"].inputs["i"]
    assert (str(image.dtype), image.shape, signatures["total"].outputs["sum"].shape) == (
        "float",
        (-1, 2, 2),
        (),
    )


def test_status_lists_versions_with_their_reasons(url: str, ask: Ask) -> None:
    assert ask(url, "status", "half") == [
        VersionStatus(8, "END", "NOT_FOUND", "no such file"),
        VersionStatus(7, "AVAILABLE"),
    ]


def test_the_gateway_lists_models(url: str, ask: Ask, fake: Fake) -> None:
    fake.answers["/v1/models"] = (200, '{"models": [{"name": "half", "state": "AVAILABLE"}]}')
    assert ask(url, "models") == [{"name": "half", "state": "AVAILABLE"}]


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False)])
def test_ready_is_the_gateways_answer(
    url: str, ask: Ask, fake: Fake, status: int, ready: bool
) -> None:
    fake.answers["/readyz"] = (status, "{}")
    assert ask(url, "ready") is ready


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        ((400, error("x: rank 2, expected 1")), InvalidArgument, "^x: rank 2, expected 1$"),
        (
            (404, error("Servable not found for request: Latest(half)")),
            NotFound,
            r"^Servable not found .*Latest\(half\)$",
        ),
        ((413, error("the body is too large")), BodyTooLarge, "^the body is too large$"),
        (
            (503, error("The batch scheduling queue is full")),
            Unavailable,
            "^The batch scheduling queue is full$",
        ),
        ((504, error("too slow")), DeadlineExceeded, "^too slow$"),
        ((400, ""), InvalidArgument, "^HTTP status 400: an empty body$"),
        ((404, "<html>Not Found</html>"), NotFound, "^HTTP status 404: <html>Not Found</html>$"),
        ((500, b"\xff\xfe"), HeadraceError, "^HTTP status 500: "),
        ((400, '{"error": "a\tb \\u0001"}'), InvalidArgument, "^a\tb \x01$"),
        ((302, ""), Unknown, "^HTTP status 302"),
        ((200, "<html>hello</html>"), Unknown, "the answer does not fit signature serving_default"),
        (
            (200, '{"predictions": [["a"]]}'),
            Unknown,
            "the answer does not fit signature serving_default",
        ),
        ((200, '{"answer": 42}'), Unknown, "the answer does not fit signature serving_default"),
    ],
)
def test_errors_are_of_the_tree_with_the_servers_words(
    url: str, ask: Ask, fake: Fake, answer: Any, kind: type[HeadraceError], message: str
) -> None:
    fake.answers["/v1/models/half:predict"] = answer
    with pytest.raises(kind, match=message):
        ask(url, "predict", "half", [1.0])
    assert [path for path, _ in fake.requests].count("/v1/models/half:predict") == 1


def test_a_servers_details_are_kept(url: str, ask: Ask, fake: Fake) -> None:
    details = [{"path": "/instances/0", "expected": "a number", "got": "null"}]
    fake.answers["/v1/models/half:predict"] = (400, error("instances[0]: null", details=details))
    with pytest.raises(InvalidArgument) as caught:
        ask(url, "predict", "half", [1.0])
    assert caught.value.details == details


@pytest.mark.parametrize("method", ["models", "ready"])
@pytest.mark.parametrize(
    "answer",
    [(400, error("Missing model name in request.")), (404, "<html>Not Found</html>")],
    ids=["400", "404"],
)
def test_what_tensorflow_serving_lacks_is_reported(
    url: str, ask: Ask, fake: Fake, method: str, answer: Any
) -> None:
    if method == "ready" and answer[0] == 400:
        answer = (404, error("Malformed request: GET /readyz"))
    fake.answers["/v1/models"] = fake.answers["/readyz"] = answer
    with pytest.raises(Unimplemented, match="TensorFlow Serving has none"):
        ask(url, method)


@pytest.mark.parametrize(
    ("inputs", "signature", "kind", "message"),
    [
        (
            np.ones(2),
            "half",
            Unimplemented,
            r"^h: half cannot be sent as JSON; use a grpc:// address",
        ),
        (
            np.ones((0, 2, 2)),
            "image",
            InvalidArgument,
            r"^i: JSON cannot express the shape \(0, 2, 2\); use a grpc://",
        ),
    ],
)
def test_what_json_cannot_express_is_refused_before_it_is_sent(
    url: str,
    ask: Ask,
    fake: Fake,
    inputs: Any,
    signature: str,
    kind: type[HeadraceError],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        ask(url, "predict", "half", inputs, signature=signature)
    assert not any(path.endswith(":predict") for path, _ in fake.requests)


@pytest.mark.parametrize("what", ["metadata", "status"])
def test_an_answer_of_something_else_is_an_error(url: str, ask: Ask, fake: Fake, what: str) -> None:
    path = "/v1/models/half" + ("/metadata" if what == "metadata" else "")
    for body in ("<html>hello</html>", "[]", '{"model_version_status": [{}]}', '{"metadata": 1}'):
        fake.answers[path] = (200, body)
        with pytest.raises(Unknown):
            ask(url, what, "half")


def test_a_slow_model_ends_at_the_timeout(url: str, ask: Ask, fake: Fake) -> None:
    fake.answers["/v1/models/half:predict"] = lambda body: (fake.release.wait(30), (200, ""))[1]
    with pytest.raises(DeadlineExceeded, match=rf"^no answer from {url} within 0\.3 s$"):
        ask(url, "predict", "half", [1.0], timeout_s=0.3)


def test_an_answer_that_trickles_ends_at_the_timeout(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def trickle() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not over.wait(0.02):
                    try:
                        peer.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            with pytest.raises(DeadlineExceeded):
                ask(
                    f"http://127.0.0.1:{listener.getsockname()[1]}", "status", "half", timeout_s=0.3
                )
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    "cut", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"nonsense\r\n\r\n"]
)
def test_a_connection_that_breaks_is_unavailable(ask: Ask, cut: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def break_off() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(cut)

        thread = threading.Thread(target=break_off)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Unavailable, match=rf"^cannot reach {url}: ."):
            ask(url, "status", "half")
        thread.join()


def test_no_server_is_unavailable_with_the_address(ask: Ask) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Unavailable, match=rf"^cannot reach {url}: Connection refused$"):
            ask(url, "predict", "half", [1.0])


def test_an_unknown_host_is_unavailable(ask: Ask) -> None:
    with pytest.raises(Unavailable, match=r"^cannot reach http://no-such-host\.invalid:80: "):
        ask("http://no-such-host.invalid", "status", "half")


def test_a_host_that_requests_refuses_is_unavailable(ask: Ask) -> None:
    with pytest.raises(Unavailable, match=r"^cannot reach http://\*\.invalid:80: "):
        ask("http://*.invalid", "status", "half")


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    url: str, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ask(url, "ready", "half") is True


def test_connections_are_kept(fake: Fake, url: str) -> None:
    with Client(url) as client:
        for _ in range(5):
            client.predict("half", [1.0])
    assert len(fake.requests) == 6
    assert len(fake.peers) == 1


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
