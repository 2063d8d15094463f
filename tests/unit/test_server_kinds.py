"""Every kind of model that TensorFlow Serving runs: strings and tables, tf.Examples, many
signatures, TF1 and TF2."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from headrace.http.access_log import Fields
from headrace.protocol import messages, tensors
from headrace.server.engines.tensorflow import TensorFlowEngine
from tests.live import LiveGateway, LiveServer, until

NAMES = (
    "words_tf2",
    "table_tf2",
    "table_tf1",
    "examples_tf2",
    "half_plus_two_tf2",
    "many_signatures",
    "tagged",
    "keras_functional",
)


@pytest.fixture(scope="module")
def live(kinds: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("kinds")
    entries = (
        f'config {{ name: "{n}" base_path: "{kinds / n}" model_platform: "tensorflow" }}'
        for n in NAMES
    )
    (folder / "models.config").write_text("model_config_list {" + "\n".join(entries) + "}")
    with LiveServer.launcher(folder) as launch:
        server = launch(model_config_file=folder / "models.config", access_log="json")
        server.wait_until_available(*NAMES)
        yield server


@pytest.fixture(scope="module")
def gateway(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    folder = tmp_path_factory.mktemp("gateway")
    gateway = LiveGateway(folder, live, live.log.parents[1] / "models.config", {})
    yield gateway
    gateway.close()


def ask(live: LiveServer, model: str, **body: Any) -> Any:
    answer = live.predict(model, body)
    assert answer.status == 200, answer.body
    return answer.json


def call(
    live: LiveServer, model: str, signature: str = "", **inputs: np.ndarray
) -> dict[str, np.ndarray]:
    request = messages.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for alias, array in inputs.items():
        request.inputs[alias].CopyFrom(tensors.to_proto(np.asarray(array)))
    method = messages.PREDICT
    rpc = live.channel.unary_unary(
        method.path, method.request.SerializeToString, method.response.FromString
    )
    answer = rpc(request, timeout=20)
    return {alias: tensors.from_proto(proto) for alias, proto in answer.outputs.items()}


def strings(*values: str) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = [value.encode() for value in values]
    return array


def test_text_vectorization_in_the_graph(live: LiveServer) -> None:
    rest = ask(live, "words_tf2", instances=["The mill, the WHEEL", "", "river \u00e9t\u00e9 mill"])
    assert rest == {"predictions": [[1, 3, 1, 4], [0, 0, 0, 0], [2, 1, 3, 0]]}
    assert call(live, "words_tf2", text=strings("wheel mill"))["ids"].tolist() == [[4, 3, 0, 0]]


@pytest.mark.parametrize("model", ["table_tf2", "table_tf1"])
def test_a_table_read_from_an_asset(live: LiveServer, model: str) -> None:
    rest = ask(live, model, inputs={"word": ["wheel", "river", "nobody"]})["outputs"]
    assert (rest["line"] if model == "table_tf1" else rest) == [2, 0, -1]
    assert call(live, model, word=strings("mill"))["line"].tolist() == [1]


def test_assets_are_the_versions_own(live: LiveServer, kinds: Path) -> None:
    """The file they were made from has been somewhere else, and may be gone."""
    for model in ("table_tf2", "table_tf1"):
        assert (kinds / model / "1" / "assets" / "words.txt").is_file()


def example(**features: Any) -> bytes:
    made = messages.Example()
    for name, values in features.items():
        kind = {float: "float_list", int: "int64_list", bytes: "bytes_list"}[type(values[0])]
        getattr(made.features.feature[name], kind).value.extend(values)
    return bytes(made.SerializeToString())


def test_examples_are_parsed_in_the_graph(live: LiveServer) -> None:
    examples = np.empty(2, object)
    examples[:] = [example(x=[1.0, 2.0], word=[b"mill"], many=[1, 2, 3]), example(x=[0.5, 0.25])]
    answer = call(live, "examples_tf2", examples=examples)

    assert answer["sum"].tolist() == [3.0, 0.75]
    assert answer["word"].tolist() == [b"mill", b"none"]
    assert answer["many"].tolist() == [6, 0]

    wrong = live.predict("examples_tf2", {"instances": ["not an example"]})
    assert (wrong.status, "Could not parse example input" in wrong.json["error"]) == (400, True)


def test_several_inputs_outputs_and_signatures(live: LiveServer) -> None:
    rows = ask(live, "many_signatures", inputs={"x": [[1, 2], [3, 4]], "scale": 2})["outputs"]
    assert rows == {"y": [[10.0], [22.0]], "rows": 2}
    both = ask(live, "many_signatures", signature_name="sum", instances=[{"a": 5, "b": 7}])[
        "predictions"
    ]
    assert both == [{"sum": 12, "difference": -2}]
    assert ask(live, "many_signatures", signature_name="half", inputs=3) == {"outputs": 1.5}


def test_a_default_stands_in_over_grpc_and_not_over_rest(live: LiveServer) -> None:
    x = np.float32([[1, 2]])
    assert call(live, "many_signatures", x=x)["y"].tolist() == [[50.0]]
    assert call(live, "many_signatures", x=x, scale=np.float32(1))["y"].tolist() == [[5.0]]
    assert live.predict("many_signatures", {"inputs": {"x": [[1, 2]]}}).json == {
        "error": "Missing named input: scale in 'inputs' object."
    }


def test_an_empty_batch_is_answered_with_none(live: LiveServer) -> None:
    assert call(live, "many_signatures", x=np.zeros((0, 2), np.float32))["y"].shape == (0, 1)
    assert call(live, "words_tf2", text=strings())["ids"].shape == (0, 4)
    assert ask(live, "many_signatures", signature_name="sum", inputs={"a": [], "b": []})[
        "outputs"
    ] == {
        "sum": [],
        "difference": [],
    }


def test_an_export_of_keras_itself(live: LiveServer) -> None:
    assert ask(live, "keras_functional", instances=[{"left": [1.5], "right": [2.0]}])[
        "predictions"
    ] == [[3.5]]
    names = live.get("/v1/models/keras_functional/metadata").json["metadata"]["signature_def"][
        "signature_def"
    ]
    assert {"serving_default", "serve"} <= set(names)


def test_tags_choose_the_graph(
    live: LiveServer, kinds: Path, launch: Callable[..., LiveServer]
) -> None:
    assert ask(live, "tagged", instances=[1.0]) == {"predictions": [2.0]}
    gpu = launch(
        model_name="tagged", model_base_path=kinds / "tagged", saved_model_tags="serve,gpu"
    )
    gpu.wait_until_available("tagged")
    assert ask(gpu, "tagged", instances=[1.0]) == {"predictions": [3.0]}


def test_the_access_log_has_a_line_a_request(live: LiveServer) -> None:
    ask(live, "tagged", instances=[1.0])
    with pytest.raises(grpc.RpcError):
        call(live, "tagged", "nope", x=np.float32([1]))
    lines = []

    def written() -> bool:
        lines[:] = [
            json.loads(line) for line in live.said().splitlines() if line.startswith('{"time"')
        ]
        return any(
            line["protocol"] == "grpc" and line["status"] == "FAILED_PRECONDITION" for line in lines
        )

    until(written, 5)
    assert any(
        line["path"] == "/v1/models/tagged:predict" and line["status"] == 200 for line in lines
    )


def access_lines(log: str, request_id: str) -> list[dict[str, Any]]:
    lines = [
        json.loads(line) for line in log.splitlines() if f'"request_id": "{request_id}"' in line
    ]
    return [line for line in lines if line["event"] == "request"]


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_gateway_and_server_write_the_same_line_of_a_request(
    live: LiveServer, gateway: LiveGateway, protocol: str
) -> None:
    request_id = f"joined-{protocol}"
    if protocol == "rest":
        connection = http.client.HTTPConnection("127.0.0.1", gateway.rest_port, timeout=20)
        path = "/v1/models/tagged:predict"
        connection.request("POST", path, '{"instances": [1.0]}', {"X-Request-Id": request_id})
        assert connection.getresponse().status == 200
        connection.close()
    else:
        request = messages.PredictRequest()
        request.model_spec.name = "tagged"
        request.inputs["x"].CopyFrom(tensors.to_proto(np.float32([1])))
        call = gateway.channel.unary_unary(messages.PREDICT.path)
        metadata = (("x-request-id", request_id),)
        call(request.SerializeToString(), timeout=20, metadata=metadata)

    def is_written() -> bool:
        return all(access_lines(log.said(), request_id) for log in (live, gateway))

    until(is_written, 5)
    (served,) = access_lines(live.said(), request_id)
    (passed,) = access_lines(gateway.said(), request_id)
    assert list(served) == list(passed) == ["time", "level", "event", *Fields._fields]
    same = ("protocol", "method", "model", "version", "signature", "status", "response_bytes")
    assert {name: served[name] for name in same} == {name: passed[name] for name in same}
    assert (served["version"], served["signature"]) == ("1", "serving_default")
    assert min(served["request_bytes"], served["response_bytes"], served["duration_ms"]) > 0


def test_two_hundred_megabytes_of_weights(exported: Callable[..., Path]) -> None:
    folder = exported("export_kinds.py", "heavy") / "heavy" / "1"
    model = TensorFlowEngine().load(folder)
    try:
        answer = model.run(
            model.signatures["serving_default"], {"row": np.int32([0, 49])}, ["mean"]
        )
    finally:
        model.close()
    assert answer["mean"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("door", ["live", "gateway"])
def test_tasks_whose_signatures_have_inputs_of_their_own_are_answered_in_one_call(
    door: str, request: pytest.FixtureRequest
) -> None:
    """Both are fed the same examples, as in TensorFlow Serving."""
    sent = messages.MultiInferenceRequest()
    for method in ("regress", "classify"):
        spec = {"name": "half_plus_two_tf2", "signature_name": f"{method}_x_to_y"}
        sent.tasks.add(model_spec=spec, method_name=f"tensorflow/serving/{method}")
    for x in (1.0, 5.0):
        example = sent.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(x)
    call = request.getfixturevalue(door).channel.unary_unary(messages.MULTI_INFERENCE.path)

    regressed, classified = messages.MultiInferenceResponse.FromString(
        call(sent.SerializeToString(), timeout=20)
    ).results

    assert [row.value for row in regressed.regression_result.regressions] == [2.5, 4.5]
    assert [
        [c.score for c in row.classes] for row in classified.classification_result.classifications
    ] == [
        [2.5],
        [4.5],
    ]
    assert regressed.model_spec.version.value == classified.model_spec.version.value == 1
