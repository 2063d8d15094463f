"""Deadlines end the waiting, and the run where TensorFlow can be interrupted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from headrace.protocol import messages, tensors
from headrace.protocol.errors import DeadlineExceeded, Unavailable
from headrace.server.engines.tensorflow import TensorFlowEngine
from tests.live import LiveServer, until

FOREVER = 2e9  # rounds of the loop: minutes


@pytest.fixture(scope="module")
def live(contract_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer.launcher(tmp_path_factory.mktemp("deadlines")) as launch:
        server = launch(
            model_name="slow",
            model_base_path=contract_models / "slow",
            rest_api_timeout_in_ms=300,
            rest_api_num_threads=2,
            grpc_max_threads=2,
        )
        server.wait_until_available("slow")
        yield server


def cpu_s(live: LiveServer) -> float:
    fields = Path(f"/proc/{live.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def is_idle(live: LiveServer) -> bool:
    before = cpu_s(live)
    time.sleep(0.5)  # the time over which it is looked at
    return cpu_s(live) - before < 0.2


def request(rounds: float) -> bytes:
    message = messages.PredictRequest(model_spec={"name": "slow"})
    message.inputs["x"].CopyFrom(tensors.to_proto(np.float32([rounds])))
    return bytes(message.SerializeToString())


def test_a_loop_is_stopped_by_tensorflow_itself(contract_models: Path) -> None:
    model = TensorFlowEngine().load(contract_models / "slow" / "1")
    try:
        with pytest.raises(DeadlineExceeded):  # it returns, so nothing runs any more
            model.run(
                model.signatures["serving_default"],
                {"x": np.float32([FOREVER])},
                ["y"],
                timeout_s=0.1,
            )
    finally:
        model.close()


def test_a_version_is_unloaded_only_when_its_last_run_has_ended(contract_models: Path) -> None:
    model = TensorFlowEngine().load(contract_models / "slow" / "1")
    signature = model.signatures["serving_default"]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            model.run, signature, {"x": np.float32([FOREVER])}, ["y"], timeout_s=1.0
        )
        until(lambda: model._under_way == 1, 5)
        model.close()
        assert isinstance(running.exception(5), DeadlineExceeded)
    with pytest.raises(Unavailable, match="unloaded"):
        model.run(signature, {"x": np.float32([1.0])}, ["y"])


def test_rest_calls_past_their_deadline_end_and_leave_their_threads(live: LiveServer) -> None:
    with ThreadPoolExecutor(6) as pool:  # three times the threads there are
        answers = list(pool.map(lambda _: live.predict("slow", {"instances": [FOREVER]}), range(6)))
    assert {answer.status for answer in answers} == {504}
    assert live.predict("slow", {"instances": [5.0]}).json == {"predictions": [10.0]}
    until(lambda: is_idle(live), 20)


def test_grpc_calls_past_their_deadline_end_and_leave_their_threads(live: LiveServer) -> None:
    send = live.channel.unary_unary(messages.PREDICT.path)
    calls = [send.future(request(FOREVER), timeout=0.3) for _ in range(6)]
    assert {call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert send(request(5.0), timeout=10)
    until(lambda: is_idle(live), 20)
