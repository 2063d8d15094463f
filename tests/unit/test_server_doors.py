"""What both doors do beyond the recorded exchanges: limits, deadlines, words for what a caller got
wrong."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from headrace.protocol import messages, tensors
from tests.live import LiveServer, until

MAX_BODY = 200_000


@pytest.fixture(scope="module")
def live(contract_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    names = ("half_plus_two", "two_in_two_out", "slow", "mnist_cnn", "ident_string")
    folder = tmp_path_factory.mktemp("doors")
    config = folder / "models.config"
    entries = "".join(
        f'config {{ name: "{n}" base_path: "/models/{n}" model_platform: "tensorflow" }}'
        for n in names
    )
    config.write_text(f"model_config_list {{ {entries} }}")
    flags = {
        "rest_api_timeout_in_ms": 2000,
        "rest_api_max_body_bytes": MAX_BODY,
        "grpc_max_message_bytes": MAX_BODY,
    }
    with LiveServer.launcher(folder) as launch:
        server = launch(model_config_file=config, models_root=contract_models, **flags)
        server.wait_until_available(*names)
        yield server


def predict(live: LiveServer, model: str, *, timeout_s: float = 30, **fields: Any) -> Any:
    method = messages.PREDICT
    inputs = fields.pop("inputs", {})
    request = method.request(model_spec={"name": model}, **fields)
    for alias, value in inputs.items():
        proto = tensors.to_proto(value) if isinstance(value, np.ndarray) else value
        request.inputs[alias].CopyFrom(proto)
    stub = live.channel.unary_unary(
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )
    return stub(request, timeout=timeout_s)


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    return refusal.value.code().name, refusal.value.details()


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_body_over_the_limit_is_answered_413_and_the_next_one_is_served(live: LiveServer) -> None:
    answer = live.predict("half_plus_two", b'{"instances": [' + b"1.0," * MAX_BODY + b"1.0]}")

    assert (answer.status, answer.closed) == (413, True)
    assert answer.json == {
        "error": f"the request body is larger than {MAX_BODY} bytes (rest_api_max_body_bytes)"
    }
    assert live.predict("half_plus_two", {"instances": [1.0]}).status == 200


def test_a_chunked_body_over_the_limit_is_answered_413(live: LiveServer) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    head = (
        b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
        b"chunked\r\n\r\n"
    )

    assert live.send(head + chunk * 5 + b"0\r\n\r\n").status == 413


def test_a_body_announced_over_the_limit_need_not_be_sent(live: LiveServer) -> None:
    head = "POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: h\r\n"

    answer = live.send(
        f"{head}Expect: 100-continue\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode()
    )

    assert answer.status == 413


def test_a_gzip_bomb_counts_as_no_body(live: LiveServer) -> None:
    body = gzip.compress(b'{"instances": [' + b" " * (101 << 20) + b"1.0]}")

    answer = live.request(
        "POST", "/v1/models/half_plus_two:predict", headers={"Content-Encoding": "gzip"}, body=body
    )

    assert (answer.status, answer.json) == (
        400,
        {"error": "JSON Parse error: The document is empty"},
    )


def test_head_has_no_body(live: LiveServer) -> None:
    answer = live.request("HEAD", "/v1/models/half_plus_two")

    assert (answer.status, answer.body, answer.closed) == (400, b"", False)


def test_two_requests_on_one_connection_are_answered_in_order(live: LiveServer) -> None:
    body = b'{"instances": [1.0]}'
    post = (
        b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n"
        % len(body)
    )

    answer = live.send(post + b"\r\n" + body + post + b"Connection: close\r\n\r\n" + body)

    assert (answer.status, answer.body) == (200, b'{\n    "predictions": [2.5\n    ]\n}')


def test_the_models_are_listed(live: LiveServer) -> None:
    models = {model["name"]: model for model in live.get("/v1/models").json["models"]}

    signatures = models["half_plus_two"].pop("signatures")
    assert signatures["serving_default"] == {
        "inputs": {"x": {"dtype": "float", "shape": [-1, 1]}},
        "outputs": {"y": {"dtype": "float", "shape": [-1, 1]}},
    }
    assert not any(name.startswith("__") for name in signatures)
    assert models["half_plus_two"] == {
        "name": "half_plus_two",
        "state": "AVAILABLE",
        "default_version": 123,
        "versions": [
            {
                "version": 123,
                "state": "AVAILABLE",
                "reason": "",
                "batched": ["regress_x2_to_y3", "serving_default"],
            }
        ],
        "labels": {},
        "reason": "",
    }
    assert set(models) == {"half_plus_two", "two_in_two_out", "slow", "mnist_cnn", "ident_string"}


def test_a_rest_call_past_its_deadline_is_answered_504_in_time(live: LiveServer) -> None:
    started = time.monotonic()

    answer = live.predict("slow", {"instances": [50_000_000.0]})

    assert (answer.status, answer.json) == (504, {"error": "Timed out waiting for notification"})
    assert time.monotonic() - started < 5


def test_a_grpc_call_past_its_deadline_leaves_the_server_free(live: LiveServer) -> None:
    for _ in range(
        20
    ):  # more than there are threads: were they not freed, nothing would answer any more
        code, _ = refused(
            lambda: predict(live, "slow", inputs={"x": floats(50_000_000)}, timeout_s=0.05)
        )
        assert code == "DEADLINE_EXCEEDED"

    assert predict(live, "slow", inputs={"x": floats(5)}).outputs["y"].float_val == [10]


def test_a_wrong_rank_to_a_convolution_is_told_where(live: LiveServer) -> None:
    answer = live.predict("mnist_cnn", {"instances": [[1.0]]})

    assert answer.status == 400
    assert "x: shape (1, 1), expected (?, 28, 28, 1)" in answer.json["error"]
    code, details = refused(
        lambda: predict(live, "mnist_cnn", inputs={"x": np.zeros((1, 3), np.float32)})
    )
    assert code == "INVALID_ARGUMENT"
    assert "x: shape (1, 3), expected (?, 28, 28, 1)" in details


def said(dims: Sequence[int], *, dtype: int = 1, **content: Any) -> Any:
    """A tensor that says this of itself, true or not."""
    return messages.TensorProto(
        dtype=dtype, tensor_shape={"dim": [{"size": n} for n in dims]}, **content
    )


COUNT = "input size does not match signature"
PARSING = "tensor parsing error: x"


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (
            {},
            f"{COUNT}: 0!=1 len({{}}) != len({{x}}). Sent extra: {{}}. Missing but required: "
            f"{{x}}.",
        ),
        (
            {"x": floats(1), "z": floats(1)},
            f"{COUNT}: 2!=1 len({{x,z}}) != len({{x}}). Sent extra: {{z}}. Missing but required: "
            f"{{}}.",
        ),
        (
            {"z": floats(1)},
            "Signature input alias: x(feed name: x:0) not found in request and no default value "
            "provided. "
            "Inputs expected to be in the request {z}, or default input alias set: ",
        ),
        ({"x": np.array([1], np.int32)}, "Expects arg[0] to be float but int32 is provided"),
        ({"x": said([1 << 40], float_val=[1])}, PARSING),
        ({"x": said([-3])}, PARSING),
        ({"x": said([2] * 255)}, PARSING),
        ({"x": said([3], tensor_content=b"1234")}, PARSING),
        ({"x": said([], dtype=20)}, PARSING),
    ],
    ids=["none", "extra", "wrong name", "dtype", "lies", "negative", "rank", "content", "resource"],
)
def test_what_a_grpc_caller_got_wrong(live: LiveServer, inputs: dict[str, Any], text: str) -> None:
    assert refused(lambda: predict(live, "half_plus_two", inputs=inputs)) == (
        "INVALID_ARGUMENT",
        text,
    )


def test_output_filter_chooses(live: LiveServer) -> None:
    inputs = {"int_t": np.array([1], np.int32), "str_t": np.array([b"a"], object)}

    assert list(
        predict(live, "two_in_two_out", inputs=inputs, output_filter=["int_o"]).outputs
    ) == ["int_o"]
    assert refused(
        lambda: predict(live, "two_in_two_out", inputs=inputs, output_filter=["zz"])
    ) == (
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: zz Outputs expected to be in the set "
        "{int_o,str_o}.",
    )
    assert refused(
        lambda: predict(live, "two_in_two_out", inputs=inputs, output_filter=["int_o"] * 2)
    ) == (
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: int_o",
    )


def test_long_details_are_cut(live: LiveServer) -> None:
    code, details = refused(lambda: predict(live, "é" * 2000))

    assert code == "NOT_FOUND"
    assert details.startswith("Servable not found for request: Latest(éé")
    assert details.endswith("é...TRUNCATED")
    assert 1024 <= len(details.encode()) <= 1024 + len("...TRUNCATED")


def test_a_message_over_the_limit_is_refused(live: LiveServer) -> None:
    code, _ = refused(
        lambda: predict(live, "half_plus_two", inputs={"x": np.zeros(MAX_BODY, np.float32)})
    )

    assert code == "RESOURCE_EXHAUSTED"


@pytest.fixture
def with_default(launch: LiveServer.Launcher, contract_models: Path, tmp_path: Path) -> LiveServer:
    """two_in_two_out whose signature has a default for int_t, and says it is for another method
    than predict."""
    folder = tmp_path / "store" / "1"
    shutil.copytree(contract_models / "two_in_two_out" / "1", folder)
    saved = messages.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    signature = saved.meta_graphs[0].signature_def["serving_default"]
    signature.defaults["int_t"].CopyFrom(tensors.to_proto(np.array([7], np.int32)))
    signature.method_name = "tensorflow/serving/other"
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    server = launch(model_name="m", model_base_path=folder.parent)
    server.wait_until_available("m")
    return server


def test_inputs_with_a_default_may_be_left_out_over_grpc_alone(with_default: LiveServer) -> None:
    text = np.array([b"a"], object)

    answer = predict(with_default, "m", inputs={"str_t": text})
    assert list(answer.outputs["int_o"].int_val) == [7]
    answer = predict(with_default, "m", inputs={"str_t": text, "int_t": np.array([8], np.int32)})
    assert list(answer.outputs["int_o"].int_val) == [8]
    assert refused(lambda: predict(with_default, "m", inputs={"str_t": text, "z": text})) == (
        "INVALID_ARGUMENT",
        "Inputs contains invalid name. Used request inputs: str_t, request input: str_t,z",
    )
    assert refused(
        lambda: predict(with_default, "m", inputs={"int_t": np.array([8], np.int32)})
    ) == (
        "INVALID_ARGUMENT",
        "Signature input alias: str_t(feed name: serving_default_str_t:0) not found in request "
        "and no default value "
        "provided. Inputs expected to be in the request {int_t}, or default input alias set: int_t",
    )
    over_rest = with_default.predict("m", {"inputs": {"str_t": ["a"]}})
    assert over_rest.json == {"error": "Missing named input: int_t in 'inputs' object."}


def test_method_names_are_checked_where_the_flag_says_so(
    launch: LiveServer.Launcher, contract_models: Path, with_default: LiveServer, tmp_path: Path
) -> None:
    config = tmp_path / "models.config"
    half = contract_models / "half_plus_two"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path}/store" model_platform: '
        f'"tensorflow" }}'
        f'  config {{ name: "half_plus_two" base_path: "{half}" model_platform: "tensorflow" }} }}'
    )
    server = launch(model_config_file=config, enable_signature_method_name_check=True)
    server.wait_until_available("m", "half_plus_two")

    answer = server.predict("m", {"inputs": {"str_t": ["a"], "int_t": [1]}})
    assert (answer.status, answer.json["error"]) == (
        500,
        "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
        "tensorflow/serving/classify, tensorflow/serving/regress}. Was: tensorflow/serving/other",
    )
    body = b'{"signature_name": "regress_x_to_y", "examples": [{"x": 2.0}]}'
    answer = server.request("POST", "/v1/models/half_plus_two:classify", body=body)
    assert (answer.status, answer.json["error"]) == (
        400,
        "Expected classification signature method_name to be tensorflow/serving/classify. "
        "Was: tensorflow/serving/regress",
    )
    assert server.request("POST", "/v1/models/half_plus_two:regress", body=body).json == {
        "results": [3.0]
    }
    assert server.predict("half_plus_two", {"instances": [1.0]}).json == {"predictions": [2.5]}


def test_a_timeout_of_zero_is_none(launch: LiveServer.Launcher, contract_models: Path) -> None:
    server = launch(
        model_name="slow", model_base_path=contract_models / "slow", rest_api_timeout_in_ms=0
    )
    server.wait_until_available("slow")

    assert server.predict("slow", {"instances": [5.0]}).json == {"predictions": [10.0]}


def test_classify_past_its_deadline_is_told_so(live: LiveServer) -> None:
    request = messages.RegressionRequest(
        model_spec={"name": "half_plus_two", "signature_name": "regress_x_to_y"}
    )
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(2.0)
    send = live.channel.unary_unary(messages.REGRESS.path)

    code, _ = refused(lambda: send(request.SerializeToString(), timeout=0))

    assert code == "DEADLINE_EXCEEDED"


def test_a_server_without_a_profiler(launch: LiveServer.Launcher, contract_models: Path) -> None:
    server = launch(
        model_name="m", model_base_path=contract_models / "half_plus_two", enable_profiler=False
    )

    code, _ = refused(lambda: server.channel.unary_unary(messages.PROFILE.path)(b"", timeout=10))

    assert code == "UNIMPLEMENTED"


def test_answered_questions_about_a_model_leave_no_line_in_the_log(live: LiveServer) -> None:
    def asked(model: str, request: Any, method: messages.Method) -> None:
        request.model_spec.name = model
        with contextlib.suppress(grpc.RpcError):
            live.channel.unary_unary(method.path)(request.SerializeToString(), timeout=10)

    for model in ("half_plus_two", "nobody"):
        live.get(f"/v1/models/{model}")
        live.get(f"/v1/models/{model}/metadata")
        asked(model, messages.GetModelStatusRequest(), messages.GET_MODEL_STATUS)
        metadata = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        asked(model, metadata, messages.GET_MODEL_METADATA)
    predicts = count(live, "half_plus_two:predict")
    live.predict("half_plus_two", {"instances": [11.0]})

    # Lines of REST and gRPC may change places: each thread adds its own when its answer is sent.
    until(
        lambda: (
            count(live, "half_plus_two:predict") > predicts
            and count(live, "/nobody", "status=404") == 2
            and count(live, "GetModel", "status=NOT_FOUND") == 2
        ),
        10,
        live.said,
    )
    assert count(live, "method=GET", "status=200") == 0
    assert count(live, "ModelMetadata", "status=OK") == 0
    assert count(live, "ModelStatus", "status=OK") == 0


def count(live: LiveServer, *parts: str) -> int:
    """Of access lines that hold all of these."""
    return sum(all(part in line for part in parts) for line in lines(live))


def lines(live: LiveServer) -> list[str]:
    return [line for line in live.said().splitlines() if " INFO request " in line]
