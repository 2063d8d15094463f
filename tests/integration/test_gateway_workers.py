"""A gateway of two workers, as real processes: one port each, one sum of metrics, deaths that
nobody but callers of the dead notice, one drain."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import requests

from headrace.protocol import messages
from tests.integration.conftest import ROOT, Stack, running, wait_for
from tests.integration.test_gateway_life import _request, _rounds_for

BODY = b'{"instances": [[1.0]]}'
CALL = (
    b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, contract_models: Path) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("workers")
    with running(
        folder, contract_models, ("half_plus_two", "slow"), WORKERS="2", TIMEOUT_S="20"
    ) as made:
        yield made


@pytest.fixture
def pair(shared: Stack) -> Stack:
    """Two workers that are up, also after a test that ended them."""
    assert shared.gateway.process is not None
    if shared.gateway.process.poll() is not None:
        shared.gateway.start()
        wait_for(shared.ready, within_s=30, what="the gateway is ready")
    wait_for(lambda: len(living(shared)) == 2, within_s=20, what="two workers")
    return shared


def living(stack: Stack) -> list[int]:
    """The workers that are up, by the gateway's own log."""
    lines = [json.loads(line) for line in stack.gateway.log.splitlines() if '"worker"' in line]
    up = {line["worker"] for line in lines if line["event"] == "worker is up"}
    return sorted(
        pid
        for pid in up - {line["worker"] for line in lines if line["event"] == "worker ended"}
        if exists(pid)
    )


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (
        FileNotFoundError,
        ProcessLookupError,
    ):  # gone before it was opened, or between that and the read
        return False


def counted(stack: Stack) -> float:
    """The answered predict calls, as /metrics of whichever worker gets the question has them."""
    text = requests.get(f"{stack.http}/metrics", timeout=5).text
    rows = re.findall(
        r'^headrace_gateway_requests_total\{.*model="half_plus_two".*\} (\S+)$', text, re.MULTILINE
    )
    return sum(float(n) for n in rows)


def test_the_sum_of_metrics_is_told_by_either_worker_and_outlives_both(pair):
    stack = pair
    was = counted(stack)
    for _ in range(20):
        assert stack.predict("half_plus_two", {"instances": [[1.0]]}).json() == {
            "predictions": [[2.5]]
        }
    with grpc.insecure_channel(stack.grpc) as channel:
        channel.unary_unary(messages.PREDICT.path)(_request("half_plus_two", [[1.0]]), timeout=5)
    assert stack.predict("junk_name", {"instances": [[1.0]]}).status_code == 404
    assert {counted(stack) for _ in range(8)} == {was + 21}
    before = living(stack)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: len(living(stack)) == 2 and not set(before) & set(living(stack)),
        within_s=20,
        what="two new ones",
    )
    assert counted(stack) == was + 21
    text = requests.get(f"{stack.http}/metrics", timeout=5).text
    assert "headrace_gateway_backend_up 1.0" in text and "headrace_gateway_in_flight 0.0" in text
    assert "junk_name" not in text and 'model="unknown"' in text


def test_a_dead_worker_is_replaced_and_new_callers_do_not_notice(pair):
    stack = pair
    first, second = living(stack)
    os.kill(first, signal.SIGKILL)
    answers = []
    while (now := living(stack)) == [second] or first in now:
        answers.append(stack.predict("half_plus_two", {"instances": [[1.0]]}).status_code)
    assert answers and set(answers) == {200}
    assert len(living(stack)) == 2 and exists(second)
    assert stack.ready()


def test_who_waits_for_a_worker_that_dies_is_answered_by_the_next(pair):
    stack = pair
    port = stack.gateway.ports["http"]
    both = living(stack)
    for pid in both:
        os.kill(pid, signal.SIGSTOP)
    waiting = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(6)]
    for connection in waiting:
        connection.sendall(CALL)
    for pid in both:
        os.kill(pid, signal.SIGKILL)
    for connection in waiting:
        with connection, connection.makefile("rb") as answer:
            assert answer.readline() == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("to", ["the first process", "the whole group"])
def test_sigterm_drains_all_workers_together_and_exits_0(pair, to):
    stack = pair
    workers = living(stack)
    rounds = _rounds_for(stack, seconds=0.3)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(stack.predict, "slow", {"instances": [rounds]}) for _ in range(4)]
        wait_for(lambda: _in_flight(stack) >= 4, within_s=5, what="four calls are under way")
        for pid in [stack.gateway.process.pid, *(workers if to == "the whole group" else [])]:
            os.kill(pid, signal.SIGTERM)
        assert [answer.result().status_code for answer in answers] == [200] * 4
    assert stack.gateway.wait() == 0
    assert not stack.gateway.port_file.exists()
    assert not any(exists(pid) for pid in workers)
    told = [json.loads(line) for line in stack.gateway.log.splitlines() if '"worker ended"' in line]
    assert not {line["worker"] for line in told} & set(workers)


def _in_flight(stack: Stack) -> float:
    text = requests.get(f"{stack.http}/metrics", timeout=5).text
    return float(re.findall(r"^headrace_gateway_in_flight (\S+)$", text, re.MULTILINE)[0])


def test_workers_go_when_their_parent_is_killed(pair):
    stack = pair
    workers = living(stack)
    environ = Path(f"/proc/{workers[0]}/environ").read_bytes()
    (folder,) = re.findall(rb"PROMETHEUS_MULTIPROC_DIR=([^\0]+)", environ)
    assert Path(os.fsdecode(folder)).is_dir()
    stack.gateway.kill()
    wait_for(lambda: not any(exists(pid) for pid in workers), within_s=10, what="no orphans")
    assert not Path(os.fsdecode(folder)).exists()


@pytest.mark.parametrize("door", ["http", "grpc"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_gateway_on_a_taken_port_ends_with_a_sentence(pair, door, workers):
    port = pair.gateway.ports[door]
    environ = {
        **pair.gateway.environ,
        f"HEADRACE_{door.upper()}_PORT": str(port),
        "HEADRACE_WORKERS": workers,
    }
    done = subprocess.run(
        [sys.executable, "-m", "gateway"],
        cwd=ROOT,
        env={**environ, "HEADRACE_PORT_FILE": "", "PATH": "/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert (
        f"port {port} on 127.0.0.1 cannot be opened" in done.stderr
        and "Traceback" not in done.stderr
    )
