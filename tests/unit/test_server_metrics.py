"""What is counted, and the page that shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.protocol import messages
from headrace.server.metrics import Metrics
from tests.live import LiveServer

LINE = re.compile(
    r'(?:# TYPE [:\w]+ (?:counter|histogram)|[:\w]+\{(?:\w+="(?:[^"\\]|\\.)*",?)*\} [-+.\de]+)'
)


def test_names_that_callers_make_up_do_not_fill_the_memory() -> None:
    metrics = Metrics()
    metrics.request("served", "OK")
    for i in range(5000):
        metrics.request(f"made-up-{i}", "NOT_FOUND")
    metrics.request("served", "OK")

    page = metrics.page()

    assert page.count("made-up") < 1001
    assert ':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"}' in page
    assert ':tensorflow:serving:request_count{model_name="served",status="OK"} 2' in page
    assert metrics.total("/tensorflow/serving/request_count") == 5002


@pytest.fixture(scope="module")
def live(contract_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "monitoring.config").write_text('prometheus_config { enable: true, path: "/m" }')
    with LiveServer.launcher(folder) as launch:
        server = launch(
            model_name="half_plus_two",
            model_base_path=contract_models / "half_plus_two",
            monitoring_config_file=folder / "monitoring.config",
        )
        server.wait_until_available("half_plus_two")
        yield server


def counted(live: LiveServer, line: str) -> float:
    found = [
        row
        for row in live.get("/m").body.decode().splitlines()
        if row.startswith(f":tensorflow:serving:{line} ")
    ]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def test_the_page_is_what_prometheus_reads(live: LiveServer) -> None:
    live.predict("half_plus_two", {"instances": [1.0]})

    answer = live.get("/m")

    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain")
    lines = answer.body.decode().splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert live.get("/monitoring/prometheus/metrics").status == 404  # the path is the config's


def test_calls_are_counted_by_model_and_outcome(live: LiveServer) -> None:
    label = 'request_count{model_name="half_plus_two",status="%s"}'
    before = [counted(live, label % status) for status in ("OK", "INVALID_ARGUMENT")]

    live.predict("half_plus_two", {"instances": [1.0]})
    live.predict("half_plus_two", b"{")
    live.get("/v1/models/half_plus_two")
    live.get("/v1/models/half_plus_two/nonsense")

    after = [counted(live, label % status) for status in ("OK", "INVALID_ARGUMENT")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 1]
    assert (
        counted(live, 'request_count{model_name="",status="INVALID_ARGUMENT"}') >= 1
    )  # malformed: nobody's


@pytest.mark.parametrize(
    ("verb", "api"), [("predict", "Predict"), ("classify", "Classify"), ("regress", "Regress")]
)
def test_times_and_examples_are_counted_on_both_doors(
    live: LiveServer, verb: str, api: str
) -> None:
    times = (
        f'request_latency_count{{model_name="half_plus_two",API="{verb}",entrypoint="REST"}}',
        f'request_latency_count{{model_name="half_plus_two",API="{api}",entrypoint="GRPC"}}',
        f'runtime_latency_count{{model_name="half_plus_two",API="{api}",runtime="TF1"}}',
    )
    examples = 'request_example_count_total{model="half_plus_two"}'
    before = [counted(live, line) for line in (*times, examples)]

    rest, grpc = ask(live, verb)

    assert rest == grpc == [3.0]
    after = [counted(live, line) for line in (*times, examples)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [
        1,
        1,
        2,
        0 if verb == "predict" else 2,
    ]


def ask(live: LiveServer, verb: str) -> tuple[list[float], list[float]]:
    """The same over REST and gRPC."""
    method = {m.name: m for m in messages.METHODS}[verb.capitalize()]
    request = method.request(model_spec={"name": "half_plus_two"})
    if verb == "predict":
        request.inputs["x"].CopyFrom(
            messages.TensorProto(dtype=1, tensor_shape={"dim": [{"size": 1}]}, float_val=[2])
        )
        body: object = {"instances": [2.0]}
    else:
        name = request.model_spec.signature_name = f"{verb}_x_to_y"
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(2.0)
        body = {"signature_name": name, "examples": [{"x": 2.0}]}
    data = live.channel.unary_unary(method.path)(request.SerializeToString(), timeout=10)
    answer = live.request(
        "POST", f"/v1/models/half_plus_two:{verb}", body=json.dumps(body).encode()
    ).json
    response = method.response.FromString(data)
    match verb:
        case "predict":
            return answer["predictions"], list(response.outputs["y"].float_val)
        case "classify":
            return [c[1] for c in answer["results"][0]], [
                c.score for c in response.result.classifications[0].classes
            ]
        case _:
            return answer["results"], [r.value for r in response.result.regressions]
