"""What happens to callers while the backend swaps, dies, hangs and comes back, and while the
gateway itself ends."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests

from headrace.protocol import messages, tensors
from tests.integration.conftest import ROOT, Stack, listed, running, wait_for

ONE = {"instances": [[1.0]]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, contract_models: Path) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("life")
    with running(folder, contract_models, ("half_plus_two", "slow"), TIMEOUT_S="3") as made:
        yield made


@pytest.fixture
def own_stack(shared: Stack) -> Iterator[Stack]:
    """For a test that kills or changes something: well again afterwards."""
    yield shared
    shutil.rmtree(shared.store / "half_plus_two" / "124", ignore_errors=True)
    shared.heal("half_plus_two", "slow")
    wait_for(lambda: _versions(shared) == [123], within_s=30, what="the version it came in")
    wait_for(lambda: _default_version(shared) == 123, within_s=10, what="the gateway knows it")


def readyz(stack: Stack, query: str = "") -> requests.Response:
    return requests.get(f"{stack.http}/readyz{query}", timeout=5)


def test_publishing_a_version_loses_no_call(own_stack, contract_models):
    stack, stop = own_stack, threading.Event()

    def callers() -> list[int]:
        seen = []
        with requests.Session() as session:
            while not stop.is_set():
                url = f"{stack.http}/v1/models/half_plus_two:predict"
                seen.append(session.post(url, json=ONE, timeout=10).status_code)
        return seen

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(callers) for _ in range(4)]
        try:
            stack.publish(
                "half_plus_two", contract_models / "half_plus_two_2_versions" / "124", 124
            )
            wait_for(
                lambda: _default_version(stack) == 124,
                within_s=10,
                what="version 124 is the default",
            )
            wait_for(lambda: _versions(stack) == [124], within_s=10, what="version 123 is gone")
            time.sleep(0.2)
        finally:
            stop.set()
        answers = [status for future in running for status in future.result()]
    assert len(answers) > 20
    assert set(answers) == {200}


def _default_version(stack: Stack) -> int:
    models = requests.get(f"{stack.http}/v1/models", timeout=5).json()["models"]
    return next(m["default_version"] for m in models if m["name"] == "half_plus_two")


def _versions(stack: Stack) -> list[int]:
    body = requests.get(f"{stack.direct}/v1/models/half_plus_two", timeout=5).json()
    return [int(v["version"]) for v in body["model_version_status"] if v["state"] == "AVAILABLE"]


def test_a_killed_backend_is_503_at_once_and_readiness_tells_the_truth_both_ways(own_stack):
    stack = own_stack
    assert readyz(stack, "?model=half_plus_two").status_code == 200
    stack.serving.kill()
    started = time.monotonic()
    answer = stack.predict("half_plus_two", ONE)
    assert answer.status_code == 503 and "error" in answer.json()
    wait_for(lambda: not stack.ready(), within_s=1, what="not ready after the death of the backend")
    with grpc.insecure_channel(stack.grpc) as channel, pytest.raises(grpc.RpcError) as told:
        channel.unary_unary(messages.PREDICT.path)(_request("half_plus_two", [[1.0]]), timeout=5)
    assert told.value.code() is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - started < 2
    body = readyz(stack).json()
    assert body["ready"] is False and "does not answer" in body["reason"]
    assert requests.get(f"{stack.http}/livez", timeout=5).status_code == 200

    stack.serving.start()
    wait_for(lambda: _versions(stack) == [123], within_s=30, what="the model is loaded again")
    wait_for(
        lambda: readyz(stack, "?model=half_plus_two").ok,
        within_s=1,
        what="ready after the model's return",
    )
    answer = stack.predict("half_plus_two", ONE)
    assert answer.status_code == 200, answer.text


def test_a_paused_backend_is_504_at_the_deadline_and_not_ready_within_a_second(own_stack):
    stack = own_stack
    stack.serving.signal(signal.SIGSTOP)
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stack.predict, "half_plus_two", ONE)
        wait_for(
            lambda: not stack.ready(), within_s=1, what="not ready while the backend is paused"
        )
        assert answer.result().status_code == 504
    assert 2.5 < time.monotonic() - started < 6  # three seconds, and what a busy machine adds
    stack.serving.signal(signal.SIGCONT)
    wait_for(stack.ready, within_s=1, what="ready after the pause")
    assert stack.predict("half_plus_two", ONE).status_code == 200


def test_a_broken_model_list_changes_nothing_and_is_told_with_its_place(own_stack):
    stack = own_stack
    stack.write_config(
        "model_config_list {\n  config { name: 'half_plus_two' base_pth: '/x' }\n}\n"
    )
    wait_for(lambda: readyz(stack).json()["config_error"], within_s=5, what="the gateway notices")
    assert "multimodel.config:2:" in readyz(stack).json()["config_error"]
    assert stack.predict("half_plus_two", ONE).status_code == 200
    stack.write_config(listed("half_plus_two"))
    wait_for(
        lambda: not readyz(stack).json()["config_error"], within_s=5, what="the mended list is read"
    )
    assert stack.predict("slow", {"instances": [1.0]}).status_code == 404


@pytest.mark.parametrize("door", ["rest", "grpc"])
def test_sigterm_lets_a_running_call_finish_and_exits_0(own_stack, door):
    stack = own_stack
    rounds = _rounds_for(stack, seconds=0.3)

    def by_rest() -> bool:
        return stack.predict("slow", {"instances": [rounds]}).status_code == 200

    def by_grpc() -> bool:
        with grpc.insecure_channel(stack.grpc) as channel:
            return bool(
                channel.unary_unary(messages.PREDICT.path)(_request("slow", [rounds]), timeout=10)
            )

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(by_rest if door == "rest" else by_grpc)
        wait_for(lambda: _busy(stack), within_s=2, what="the slow call is under way")
        stack.gateway.signal(signal.SIGTERM)
        assert answer.result()
    assert stack.gateway.wait() == 0
    assert not stack.gateway.port_file.exists()


def _request(model: str, rows: list[Any]) -> bytes:
    request = messages.PredictRequest()
    request.model_spec.name = model
    request.inputs["x"].CopyFrom(tensors.to_proto(np.array(rows, np.float32)))
    return bytes(request.SerializeToString())


def _rounds_for(stack: Stack, *, seconds: float) -> float:
    """How far the slow model must count to be busy that long on this machine."""
    rounds = 2000.0
    for _ in range(20):
        started = time.monotonic()
        assert stack.predict("slow", {"instances": [rounds]}).status_code == 200
        if time.monotonic() - started > seconds:
            return rounds
        rounds *= 2
    raise AssertionError(f"{rounds} rounds are not slow")


def _busy(stack: Stack) -> bool:
    return "headrace_gateway_in_flight 1.0" in requests.get(f"{stack.http}/metrics", timeout=5).text


def test_a_taken_port_ends_the_start_with_a_sentence(own_stack):
    port = own_stack.gateway.ports["http"]
    done = subprocess.run(
        [sys.executable, "-m", "gateway"],
        cwd=ROOT,
        env={
            **own_stack.gateway.environ,
            "HEADRACE_HTTP_PORT": str(port),
            "HEADRACE_PORT_FILE": "",
            "PATH": "/bin",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert (
        f"port {port} on 127.0.0.1 cannot be opened" in done.stderr
        and "HEADRACE_HTTP_PORT" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_a_taken_grpc_port_ends_the_start_with_a_sentence(own_stack):
    port = own_stack.gateway.ports["grpc"]
    done = subprocess.run(
        [sys.executable, "-m", "gateway"],
        cwd=ROOT,
        env={
            **own_stack.gateway.environ,
            "HEADRACE_GRPC_PORT": str(port),
            "HEADRACE_PORT_FILE": "",
            "PATH": "/bin",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert (
        f"port {port} on 127.0.0.1 cannot be opened" in done.stderr
        and "HEADRACE_GRPC_PORT" in done.stderr
    )
    assert "Traceback" not in done.stderr
