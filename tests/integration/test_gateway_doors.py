"""Both doors of a real gateway before a real server: answers known by head, refusals, and what
passes untouched."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import socket
import subprocess
import sys
from typing import Any

import grpc
import numpy as np
import pytest
import requests

from headrace.protocol import messages, tensors
from tests.integration.conftest import ROOT, Child, Stack, wait_for

IMAGE = np.zeros((1, 28, 28, 1), np.float32)


def call(stack: Stack, request: Any, *, method: Any = messages.PREDICT, timeout: float = 10) -> Any:
    with grpc.insecure_channel(stack.grpc) as channel:
        stub = channel.unary_unary(
            method.path, method.request.SerializeToString, method.response.FromString
        )
        return stub(request, timeout=timeout)


def predict_request(model: str, **arrays: np.ndarray) -> Any:
    request = messages.PredictRequest()
    request.model_spec.name = model
    for alias, array in arrays.items():
        request.inputs[alias].CopyFrom(tensors.to_proto(array))
    return request


def test_rest_rows_give_the_known_answer(stack):
    answer = stack.predict("half_plus_two", {"instances": [[1.0], [2.0], [5.0]]})
    assert (answer.status_code, answer.json()) == (200, {"predictions": [[2.5], [3.0], [4.5]]})


def test_rest_columns_give_the_known_answer(stack):
    answer = stack.predict("two_in_two_out", {"inputs": {"int_t": [1, 2], "str_t": ["a", "b"]}})
    assert answer.json() == {"outputs": {"int_o": [1, 2], "str_o": ["a", "b"]}}


def test_grpc_gives_the_known_answer(stack):
    reply = call(stack, predict_request("half_plus_two", x=np.array([[1.0], [5.0]], np.float32)))
    assert tensors.from_proto(reply.outputs["y"]).tolist() == [[2.5], [4.5]]
    assert reply.model_spec.version.value == 123


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/models/half_plus_two:predict", b'{"instances": [[1.0]]}'),
        ("POST", "/v1/models/half_plus_two/versions/123:predict", b'{"inputs": [[1.0]]}'),
        (
            "POST",
            "/v1/models/half_plus_two:predict",
            b'{"signature_name": "regress_x2_to_y3", "instances": [[3.0]]}',
        ),
        ("GET", "/v1/models/half_plus_two", None),
        ("GET", "/v1/models/half_plus_two/versions/123", None),
        ("GET", "/v1/models/half_plus_two/metadata", None),
        ("GET", "/v1/models/half_plus_two/versions/123/metadata", None),
        ("GET", "/v1/models/half_plus_two/versions/9", None),
    ],
)
def test_the_answer_is_that_of_the_server_itself(stack, method, path, body):
    ours = requests.request(method, stack.http + path, data=body, timeout=10)
    direct = requests.request(method, stack.direct + path, data=body, timeout=10)
    assert ours.status_code == direct.status_code
    if ours.ok:
        assert ours.content == direct.content
        assert ours.headers["content-type"] == direct.headers["content-type"]


def test_a_wrong_rank_image_is_refused_by_both_doors_and_the_server_lives(stack):
    answer = stack.predict("mnist_cnn", {"instances": [[0.0] * 784]})
    assert answer.status_code == 400
    assert answer.json()["details"][0]["path"] == "/instances/0"
    with pytest.raises(grpc.RpcError) as told:
        call(stack, predict_request("mnist_cnn", x=IMAGE.reshape(1, 784)))
    assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert stack.predict("mnist_cnn", {"instances": IMAGE.tolist()}).status_code == 200


def test_an_error_of_the_graph_itself_is_a_400_without_node_names(stack):
    answer = stack.predict("asserts", {"instances": [-1.0]})
    assert answer.status_code == 400
    assert "{{" not in answer.text and "[[" not in answer.text
    with pytest.raises(grpc.RpcError) as told:
        call(stack, predict_request("asserts", x=np.array([-1.0], np.float32)))
    assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "{{" not in told.value.details()


def test_gzip_chunks_and_kept_connections_work(stack):
    url = f"{stack.http}/v1/models/half_plus_two:predict"
    body = json.dumps({"instances": [[1.0]]}).encode()
    with requests.Session() as session:
        zipped = session.post(
            url, data=gzip.compress(body), headers={"Content-Encoding": "gzip"}, timeout=10
        )
        refused = session.post(url, data=b"nonsense", timeout=10)
        chunked = session.post(url, data=iter([body[:5], body[5:]]), timeout=10)
    assert [zipped.status_code, refused.status_code, chunked.status_code] == [200, 400, 200]
    assert chunked.json() == {"predictions": [[2.5]]}


def test_a_body_over_the_limit_is_told_so_by_a_plain_client(stack):
    answer = requests.post(
        f"{stack.http}/v1/models/half_plus_two:predict", data=b" " * (65 * 2**20), timeout=30
    )
    assert answer.status_code == 413
    assert "larger than" in answer.json()["error"]


def test_two_lengths_are_refused(stack):
    host, port = stack.http.removeprefix("http://").split(":")
    body = b'{"instances": [[1.0]]}'
    with socket.create_connection((host, int(port)), 10) as s:
        s.sendall(
            b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: %d\r\nContent-Length: 5\r\n\r\n" % len(body) + body
        )
        head, _, told = s.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert "error" in json.loads(told)


def test_the_gateway_lists_models_with_their_signatures(stack):
    models = {
        m["name"]: m for m in requests.get(f"{stack.http}/v1/models", timeout=10).json()["models"]
    }
    assert models["half_plus_two"]["default_version"] == 123
    assert models["half_plus_two"]["signatures"]["serving_default"]["inputs"]["x"] == {
        "dtype": "float",
        "shape": [-1, 1],
    }


def test_every_example_of_the_document_runs_as_it_stands(stack):
    told = requests.get(f"{stack.http}/openapi.json", timeout=10).json()
    ran = []
    for path, methods in told["paths"].items():
        content = (
            methods.get("post", {})
            .get("requestBody", {})
            .get("content", {})
            .get("application/json", {})
        )
        for name, example in content.get("examples", {}).items():
            answer = requests.post(stack.http + path, json=example["value"], timeout=30)
            assert answer.status_code == 200, (path, name, answer.text)
            ran.append(path)
    assert {"/v1/models/half_plus_two:predict", "/v1/models/mnist_cnn:predict"} <= set(ran)


def test_npy_and_npz_go_in_and_come_out_bit_for_bit(stack):
    sent = np.array([[1.0], [5.0]], np.float32)
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    answer = stack.predict("half_plus_two", _npy(sent), headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-npy")
    assert np.load(io.BytesIO(answer.content)).tolist() == [[2.5], [4.5]]
    as_json = stack.predict(
        "half_plus_two", _npy(sent), headers={"Content-Type": "application/x-npy"}
    )
    assert as_json.json() == {"outputs": [[2.5], [4.5]]}
    zipped = io.BytesIO()
    np.savez_compressed(zipped, x=sent)
    headers = {"Content-Type": "application/x-npz", "Accept": "application/x-npz"}
    answer = stack.predict("half_plus_two", zipped.getvalue(), headers=headers)
    assert np.load(io.BytesIO(answer.content))["y"].tolist() == [[2.5], [4.5]]


def test_an_encoded_picture_goes_in_as_it_is(stack):
    picture = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    answer = stack.predict("ident_string", picture, headers={"Content-Type": "image/png"})
    direct = requests.post(
        f"{stack.direct}/v1/models/ident_string:predict",
        json={"inputs": [{"b64": base64.b64encode(picture).decode()}]},
        timeout=10,
    )
    assert (answer.status_code, answer.content) == (200, direct.content)


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_grpc_status_and_metadata_go_through(stack):
    status = messages.GetModelStatusRequest()
    status.model_spec.name = "half_plus_two"
    assert (
        call(stack, status, method=messages.GET_MODEL_STATUS).model_version_status[0].version == 123
    )
    metadata = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "half_plus_two"
    reply = call(stack, metadata, method=messages.GET_MODEL_METADATA)
    assert "serving_default" in messages.signature_def_map(reply).signature_def


def test_metrics_and_request_ids(stack):
    answer = stack.predict(
        "half_plus_two", {"instances": [[1.0]]}, headers={"X-Request-Id": "it-is-me"}
    )
    assert answer.headers["x-request-id"] == "it-is-me"
    wait_for(
        lambda: '"request_id": "it-is-me"' in stack.gateway.log, within_s=2, what="the access line"
    )
    text = requests.get(f"{stack.http}/metrics", timeout=10).text
    assert 'model="half_plus_two"' in text and "headrace_gateway_backend_up 1.0" in text


def test_check_of_a_running_backend_says_what_is_live_and_what_to_do_next(stack):
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "--check"],
        cwd=ROOT,
        env={**os.environ, **stack.gateway.environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"backend {stack.direct}: answers\n" in done.stdout
    assert "  half_plus_two: AVAILABLE 123\n" in done.stdout
    assert "next: python -m gateway, then curl" in done.stdout


def test_big_bodies_go_on_as_tensors_and_are_answered_as_if_they_had_not(stack, tmp_path):
    """The gateways of each choice over one backend give the backend's own bytes, whichever way the
    call went."""
    body = json.dumps(
        {"instances": np.random.default_rng(7).random((3, 28, 28, 1)).round(6).tolist()}
    ).encode()
    path = "/v1/models/mnist_cnn:predict"
    expected = requests.post(stack.direct + path, data=body, timeout=30).content
    for choice, most in (
        ("auto", len(body) - 1),
        ("auto", len(body)),
        ("rest", 0),
        ("grpc", 10**9),
    ):
        environ = {
            **stack.gateway.environ,
            "HEADRACE_PORT_FILE": str(tmp_path / "ports.json"),
            "HEADRACE_UPSTREAM_PROTOCOL": choice,
            "HEADRACE_UPSTREAM_GRPC_BODY_BYTES": str(most),
        }
        other = Child(["gateway"], tmp_path, "gateway", tmp_path / "ports.json", environ)
        try:
            other.start()
            base = f"http://127.0.0.1:{other.ports['http']}"
            wait_for(
                lambda base=base: requests.get(f"{base}/readyz", timeout=5).ok,
                within_s=20,
                what="ready",
            )
            answer = requests.post(base + path, data=body, timeout=30)
        finally:
            other.kill()
        assert (answer.status_code, answer.content) == (200, expected), (choice, most)


@pytest.mark.parametrize(
    ("which", "spec", "status", "code", "said"),
    [
        (
            "versions/9",
            {"version": {"value": 9}},
            404,
            "NOT_FOUND",
            "has no version 9 here; available: 123",
        ),
        (
            "labels/new",
            {"version_label": "new"},
            400,
            "INVALID_ARGUMENT",
            'no version label "new"; its labels: none',
        ),
    ],
)
def test_metadata_of_what_is_not_there_says_what_is(stack, which, spec, status, code, said):
    answer = requests.get(f"{stack.http}/v1/models/half_plus_two/{which}/metadata", timeout=10)
    assert answer.status_code == status and said in answer.json()["error"]
    spec = messages.ModelSpec(name="half_plus_two", **spec)
    request = messages.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    with pytest.raises(grpc.RpcError) as told:
        call(stack, request, method=messages.GET_MODEL_METADATA)
    assert told.value.code().name == code and said in told.value.details()
