"""Warm-up: what a version brings is replayed before it serves; what fails, fails the load, in TF
Serving's words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.protocol import messages, tensors
from headrace.protocol.errors import (
    DataLoss,
    FailedPrecondition,
    HeadraceError,
    InvalidArgument,
    Unimplemented,
)
from headrace.server.engines.tensorflow import TensorFlowEngine
from headrace.server.lifecycle.warmup import FILE, WarmingEngine
from headrace.server.metrics import Metrics
from headrace.store import records
from tests.live import LiveServer, until

Log = Any


def predict(signature: str = "", **inputs: Any) -> Log:
    log = messages.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = "whoever"
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tensors.to_proto(np.asarray(value)))
    return log


def example(x: float = 1.0) -> Any:
    made = messages.Example()
    made.features.feature["x"].float_list.value.append(x)
    return made


def regress(signature: str) -> Log:
    log = messages.PredictionLog()
    log.regress_log.request.model_spec.signature_name = signature
    log.regress_log.request.input.example_list.examples.append(example())
    return log


def classify(signature: str) -> Log:
    log = messages.PredictionLog()
    log.classify_log.request.model_spec.signature_name = signature
    log.classify_log.request.input.example_list.examples.append(example())
    return log


def multi(*tasks: tuple[str, str]) -> Log:
    log = messages.PredictionLog()
    request = log.multi_inference_log.request
    for method, signature in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "m", signature
    request.input.example_list.examples.append(example())
    return log


def bring(folder: Path, *logs: Log) -> None:
    (folder / FILE).parent.mkdir(exist_ok=True)
    with (folder / FILE).open("wb") as file:
        records.write(file, (log.SerializeToString() for log in logs))


@pytest.fixture
def version(contract_models: Path, tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(contract_models / name, tmp_path / name))

    return copy


def counted(folder: Path, **settings: Any) -> float:
    model = WarmingEngine(TensorFlowEngine(), **settings).load(folder)
    try:
        return float(model.run(model.signatures["get_counter"], {}, ["output"])["output"])
    finally:
        model.close()


def test_each_record_is_replayed_once(version: Callable[[str], Path]) -> None:
    folder = version("counter/123")
    bring(
        folder,
        predict("incr_counter"),
        predict("incr_counter_by", delta=np.float32(10)),
        predict("incr_counter"),
    )

    assert counted(folder) == 12.0


def test_or_as_often_as_told(version: Callable[[str], Path]) -> None:
    folder = version("counter/123")
    bring(folder, predict("incr_counter"))

    assert counted(folder, iterations=5) == 5.0


def test_every_api_can_be_warmed(version: Callable[[str], Path]) -> None:
    folder = version("half_plus_two/123")
    metrics = Metrics()
    bring(
        folder,
        predict("", x=np.float32([[1.0]])),
        classify("classify_x_to_y"),
        regress("regress_x_to_y"),
        multi(("classify", "classify_x_to_y"), ("regress", "regress_x_to_y2")),
    )

    WarmingEngine(TensorFlowEngine(), metrics=metrics).load(folder).close()

    assert metrics.warmup_records.value(str(folder), "OK") == 4


UNFIT: dict[str, tuple[Log, type[HeadraceError], str]] = {
    "unknown signature": (
        predict("nope", x=np.float32([1])),
        FailedPrecondition,
        'Serving signature key "nope" not',
    ),
    "wrong input": (predict("", z=np.float32([1])), InvalidArgument, "Signature input alias: x"),
    "wrong dtype": (predict("", x=np.array(["a"], object)), InvalidArgument, "Expects arg|float"),
    "no such classifier": (
        classify("nope"),
        InvalidArgument,
        "No signature was found with the name: nope",
    ),
    "session run": (
        messages.PredictionLog(session_run_log={}),
        Unimplemented,
        "Unsupported log_type for warmup",
    ),
    "streamed": (
        messages.PredictionLog(predict_streamed_log={}),
        Unimplemented,
        "Unsupported log_type for warmup",
    ),
    "nothing": (messages.PredictionLog(), Unimplemented, "Unsupported log_type for warmup"),
}


@pytest.mark.parametrize(("log", "kind", "text"), UNFIT.values(), ids=UNFIT)
def test_a_record_that_fails_fails_the_load(
    version: Callable[[str], Path], log: Log, kind: type[HeadraceError], text: str
) -> None:
    folder = version("half_plus_two/123")
    bring(folder, predict("", x=np.float32([1])), log)

    with pytest.raises(kind, match=text):
        WarmingEngine(TensorFlowEngine()).load(folder)


def test_more_than_a_thousand_records_fail_the_load(version: Callable[[str], Path]) -> None:
    folder = version("half_plus_two/123")
    record = predict("", x=np.float32([1]))
    bring(folder, *[record] * 1000)
    WarmingEngine(TensorFlowEngine()).load(folder).close()

    bring(folder, *[record] * 1001)

    with pytest.raises(
        InvalidArgument,
        match=r"^Number of warmup records exceeds the maximum \(1000\) at .*requests$",
    ):
        WarmingEngine(TensorFlowEngine()).load(folder)


def test_a_file_that_is_no_tfrecord_fails_the_load(version: Callable[[str], Path]) -> None:
    folder = version("half_plus_two/123")
    bring(folder)
    (folder / FILE).write_text("GET / HTTP/1.1, or something of the kind")

    with pytest.raises(
        DataLoss, match=r"\. Please verify your warmup data is in TFRecord format\.$"
    ):
        WarmingEngine(TensorFlowEngine()).load(folder)


def test_a_record_that_is_no_message_fails_the_load(version: Callable[[str], Path]) -> None:
    folder = version("half_plus_two/123")
    bring(folder)
    with (folder / FILE).open("wb") as file:
        records.write(file, [b"\xff\xff"])

    with pytest.raises(InvalidArgument, match=r"^Failed to parse warmup record: "):
        WarmingEngine(TensorFlowEngine()).load(folder)


def test_the_server_warms_before_it_serves_and_says_why_it_could_not(
    version: Callable[[str], Path], launch: Callable[..., LiveServer]
) -> None:
    folder = version("counter/123")
    bring(folder, predict("incr_counter"))
    server = launch(
        model_name="counter", model_base_path=folder.parent, num_request_iterations_for_warmup=3
    )
    server.wait_until_available("counter")
    body = {"signature_name": "incr_counter_by", "inputs": 0.5}
    assert server.predict("counter", body).json == {"outputs": 3.5}

    bring(folder, predict("nope"))
    failed = launch(model_name="counter", model_base_path=folder.parent, max_num_load_retries=0)
    until(lambda: failed.states("counter") == {123: "END"}, 20)
    row = failed.get("/v1/models/counter").json["model_version_status"][0]
    assert row["status"] == {
        "error_code": "FAILED_PRECONDITION",
        "error_message": 'Serving signature key "nope" not found.',
    }

    cold = launch(model_name="counter", model_base_path=folder.parent, enable_model_warmup=False)
    cold.wait_until_available("counter")
