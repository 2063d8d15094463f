"""What `make up`, `down`, `status`, `smoke` and their like do to a real stack of local
processes."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from headrace import Client
from headrace.store import model_list
from tests.live import until
from tests.local import ROOT, LocalStack

MODELS = {model.name for model in model_list.load(ROOT / "multimodel.config").models}


@pytest.fixture(scope="module")
def running_stack(
    local_stack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalStack]:
    """A second stack that is up, of one model, for tests that change it."""
    with local_stack.spare(tmp_path_factory.mktemp("running")) as stack:
        up = stack.make("up")
        assert up.returncode == 0, up.stdout + up.stderr
        yield stack


def get(url: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def predict(stack, model: str, instances: list) -> list:
    body = json.dumps({"instances": instances}).encode()
    with urllib.request.urlopen(
        f"{stack.http}/v1/models/{model}:predict", body, timeout=10
    ) as answer:
        return json.load(answer)["predictions"]


def pids(stack) -> dict[str, int]:
    told = stack.make("status").stdout
    return {
        name: int(pid)
        for name, pid in re.findall(r"^(\w+) +(?:RUNNING|STARTING) +pid (\d+)", told, re.MULTILINE)
    }


def served(stack) -> set[str]:
    return {model["name"] for model in get(f"{stack.http}/v1/models")[1]["models"]}


def test_a_second_up_changes_nothing_and_is_quick(local_stack):
    before = pids(local_stack)
    assert before.keys() == {"serving", "gateway"}
    began = time.monotonic()
    up = local_stack.make("up")
    took = time.monotonic() - began
    assert (up.returncode, up.stderr) == (0, "")
    assert "serving and gateway are running" in up.stdout
    assert pids(local_stack) == before
    assert took < 30  # 0.5 s on a machine that does nothing else


def test_up_prints_addresses_logs_and_a_curl_line(local_stack):
    told = local_stack.make("up").stdout
    for wanted in (
        local_stack.http,
        local_stack.grpc.removeprefix("grpc://"),
        str(local_stack.run / "logs"),
        "curl -d ",
    ):
        assert wanted in told


def test_status_is_the_truth_about_models(local_stack):
    status = local_stack.make("status")
    assert status.returncode == 0
    for model in MODELS:
        assert re.search(rf"^ +{model} +AVAILABLE", status.stdout, re.MULTILINE)
    assert f"ready at {local_stack.http}" in status.stdout


def test_smoke_shows_an_answer_a_model(local_stack):
    smoke = local_stack.make("smoke")
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr
    assert len(re.findall(r"^ +ok \w+ version \d+: .* -> ", smoke.stdout, re.MULTILINE)) == len(
        MODELS
    )
    assert '{"x": [1.0, 2.0, 5.0]} -> [2.5, 3.0, 4.5]' in smoke.stdout


def test_smoke_fails_when_a_model_does_not_answer_as_recorded(local_stack):
    golden = local_stack.store / "half_plus_two" / "1" / "assets.extra" / "golden.json"
    right = golden.read_text()
    golden.write_text(right.replace("2.5", "2.75"))
    try:
        smoke = local_stack.make("smoke")
    finally:
        golden.write_text(right)
    assert smoke.returncode != 0
    assert "FAIL half_plus_two" in smoke.stdout
    assert "half_plus_two did not answer as wanted" in smoke.stderr


def test_logs_name_both_programs(local_stack):
    logs = local_stack.make("logs", FOLLOW="0")
    assert logs.returncode == 0
    for name in ("serving", "gateway"):
        assert f"{local_stack.run}/logs/{name}.log" in logs.stdout


def test_reload_takes_a_model_out_and_back(local_stack):
    desired = local_stack.config.read_text()
    without = re.sub(r'  config \{\s+name: "linear_model".*?\n  \}\n', "", desired, flags=re.DOTALL)
    assert without != desired
    try:
        local_stack.config.write_text(without)
        reload = local_stack.make("reload")
        assert reload.returncode == 0, reload.stdout + reload.stderr
        assert "taken away: linear_model" in reload.stdout
        assert served(local_stack) == MODELS - {"linear_model"}
    finally:
        local_stack.config.write_text(desired)
        back = local_stack.make("reload")
    assert back.returncode == 0, back.stdout + back.stderr
    assert served(local_stack) == MODELS


def test_reload_of_a_wrong_base_path_is_refused_at_once_and_changes_nothing(local_stack):
    desired = local_stack.config.read_text()
    try:
        local_stack.config.write_text(desired.replace('"/models/linear_model"', '"/models/linear"'))
        reload = local_stack.make("reload", timeout_s=30)
    finally:
        local_stack.config.write_text(desired)
    assert reload.returncode != 0
    assert (
        "linear_model: base_path /models/linear:" in reload.stderr
        and "does not exist" in reload.stderr
    )
    assert "The change is not live" in reload.stderr and "live" not in reload.stdout
    assert served(local_stack) == MODELS


def test_a_broken_config_is_refused_with_its_place_and_the_old_one_serves_on(local_stack):
    desired, live = (
        local_stack.config.read_text(),
        (local_stack.store / "multimodel.config").read_bytes(),
    )
    try:
        local_stack.config.write_text(desired.replace('name: "mnist_cnn"', "name: mnist_cnn"))
        reload, up = local_stack.make("reload"), local_stack.make("up")
        local_stack.config.write_text("")
        emptied = local_stack.make("reload")
    finally:
        local_stack.config.write_text(desired)
    for refused in (reload, up, emptied):
        assert refused.returncode != 0
        assert re.search(r"multimodel\.config:\d+:\d+: ", refused.stderr), refused.stderr
    assert (local_stack.store / "multimodel.config").read_bytes() == live
    assert predict(local_stack, "half_plus_two", [1.0]) == [2.5]


def test_killed_serving_heals_and_readyz_tells_the_truth_meanwhile(local_stack):
    before = pids(local_stack)
    os.kill(before["serving"], signal.SIGKILL)
    until(lambda: get(f"{local_stack.http}/readyz")[0] == 503, 20)
    status, body = get(f"{local_stack.http}/v1/models/half_plus_two")
    assert status == 503 and body["error"]
    # Ready is who has one model; the others are loaded one after the other.
    ready = f"{local_stack.http}/readyz?model=half_plus_two"
    until(lambda: get(ready)[0] == 200, 30, lambda: str(get(ready)))
    assert predict(local_stack, "half_plus_two", [1.0]) == [2.5]
    after = pids(local_stack)
    assert after["gateway"] == before["gateway"] and after["serving"] != before["serving"]
    # Other tests find the stack as it was.
    until(
        lambda: all(get(f"{local_stack.http}/readyz?model={model}")[0] == 200 for model in MODELS),
        60,
    )


@pytest.mark.parametrize(
    "variable", ["HEADRACE_HTTP_PORT", "HEADRACE_GRPC_PORT", "HEADRACE_SERVING_REST_PORT"]
)
def test_a_taken_port_is_named_before_anything_is_started(local_stack, spare_stack, variable):
    up = spare_stack.make("up", **{variable: str(local_stack.ports[variable])})
    assert up.returncode != 0
    assert f"Port {local_stack.ports[variable]}" in up.stderr and f"{variable}=" in up.stderr
    assert not (spare_stack.run / "supervisord.pid").exists()
    assert not (spare_stack.run / "logs").exists()


def test_an_address_of_another_machine_is_told_as_such(spare_stack):
    up = spare_stack.make("up", HEADRACE_BIND_ADDRESS="192.0.2.1")
    assert up.returncode != 0
    assert (
        "HEADRACE_BIND_ADDRESS=192.0.2.1 cannot be listened on: Cannot assign requested address."
        in up.stderr
    )
    assert "End what uses it" not in up.stderr


def test_up_and_down_again_leave_nothing_behind(spare_stack):
    up = spare_stack.make("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert predict(spare_stack, "half_plus_two", [1.0]) == [2.5]
    running = pids(spare_stack)
    down = spare_stack.make("down")
    assert (down.returncode, down.stderr) == (0, "")
    for pid in running.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    again = spare_stack.make("down")
    assert again.returncode == 0 and "Nothing runs" in again.stdout
    assert spare_stack.make("status").returncode != 0


@pytest.mark.long
def test_up_over_an_empty_store_trains_all_and_says_what_full_trainings_reach(tmp_path):
    stack = LocalStack.new(tmp_path)
    try:
        up = stack.make("up")
        assert up.returncode == 0, up.stdout + up.stderr
        for model in MODELS:
            assert f"{model} version 1 published in {stack.store / model / '1'}: " in up.stdout
        assert (
            len(re.findall(r"quick settings: full ones reach about \d", up.stdout))
            == len(MODELS) - 1
        )
        assert served(stack) == MODELS
    finally:
        stack.make("down")


def test_changed_settings_restart_the_programs(running_stack):
    before = pids(running_stack)
    changed = running_stack.make("up", HEADRACE_TIMEOUT_S="7")
    assert changed.returncode == 0, changed.stdout + changed.stderr
    assert "stopping serving and gateway" in changed.stdout
    assert pids(running_stack).keys() == before.keys()
    assert not set(pids(running_stack).values()) & set(before.values())


@pytest.mark.parametrize(
    ("verb", "variable", "value"),
    [
        ("up", "HEADRACE_TIMEOUT_S", "soon"),
        ("up", "HEADRACE_BIND_ADDRESS", "192.0.2.1"),
        ("restart", "HEADRACE_GRPC_PORT", ""),  # of the other stack, which holds it
    ],
)
def test_a_wrong_setting_or_a_taken_port_leaves_a_running_stack_alone(
    local_stack, running_stack, verb, variable, value
):
    before = pids(running_stack)
    done = running_stack.make(verb, **{variable: value or str(local_stack.ports[variable])})
    assert done.returncode != 0
    assert "Nothing was changed" in done.stderr and variable in done.stderr
    assert pids(running_stack) == before
    assert predict(running_stack, "half_plus_two", [1.0]) == [2.5]


def test_settings_of_other_parts_do_not_end_the_gateway_nor_restart_it(running_stack):
    running_stack.make("up")
    before = pids(running_stack)
    others = {
        "HEADRACE_LIVE_TIMEOUT_S": "30",
        "HEADRACE_GATEWAY_MEMORY": "2g",
        "HEADRACE_TAG": "mine",
    }
    up = running_stack.make("up", **others)
    assert (up.returncode, up.stderr) == (0, "")
    assert pids(running_stack) == before


def test_a_program_that_keeps_ending_fails_the_start_with_its_last_words(spare_stack, tmp_path):
    (tmp_path / "fastapi.py").write_text("raise SystemExit('this package is broken')")
    log = spare_stack.run / "logs" / "gateway.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("what an earlier start said\n")
    up = spare_stack.make("up", PYTHONPATH=str(tmp_path))
    assert up.returncode != 0
    assert "gateway keeps ending" in up.stderr and "this package is broken" in up.stderr
    assert (
        log.read_text().startswith("what an earlier start said")
        and "earlier start" not in up.stderr
    )
    assert "Nothing runs" in spare_stack.make("status").stdout


def test_no_version_and_no_way_to_train_one_starts_nothing(spare_stack):
    spare_stack.config.write_text(
        'model_config_list { config { name: "mine" base_path: "/models/mine" } }\n'
    )
    up = spare_stack.make("up")
    assert up.returncode != 0
    assert "mine" in up.stdout + up.stderr
    assert not (spare_stack.run / "supervisord.pid").exists()


def test_reload_without_a_stack_says_so(spare_stack):
    reload = spare_stack.make("reload")
    assert reload.returncode != 0 and "make up" in reload.stderr


def test_a_setting_that_is_no_port_is_refused(spare_stack):
    up = spare_stack.make("up", HEADRACE_HTTP_PORT="http")
    assert up.returncode != 0
    assert "HEADRACE_HTTP_PORT=http" in up.stderr


def test_a_runtime_that_is_not_there_is_refused(spare_stack):
    up = spare_stack.make("up", RUNTIME="kubernetes")
    assert up.returncode != 0 and "RUNTIME=kubernetes: expected" in up.stderr


@pytest.mark.parametrize("per_second", [50, pytest.param(200, marks=pytest.mark.long)])
def test_no_prediction_is_lost_while_a_version_is_published_rolled_back_and_promoted(
    running_stack, per_second
):
    stack, listed = running_stack, running_stack.config.read_text()
    assert versions(stack, "half_plus_two") == [1]
    with predictions(stack, per_second) as answers:
        train = stack.make("train", MODELS="half_plus_two", ARGS="--quick")
        assert train.returncode == 0, train.stdout + train.stderr
        until(lambda: versions(stack, "half_plus_two") == [2], 30)
        try:
            back = stack.make("rollback", MODEL="half_plus_two")
            assert back.returncode == 0, back.stdout + back.stderr
            assert "+    model_version_policy { specific { versions: 1 } }" in back.stdout
            assert "half_plus_two is pinned to version 1: live" in back.stdout
            assert versions(stack, "half_plus_two") == [1]
            kept = stack.make("gc", MODEL="half_plus_two", KEEP="1")
            assert kept.returncode == 0 and "version 1 stays" in kept.stdout
        finally:
            forward = stack.make("promote", MODEL="half_plus_two")
        assert forward.returncode == 0, forward.stdout + forward.stderr
        assert versions(stack, "half_plus_two") == [2]
        shutil.rmtree(stack.store / "half_plus_two" / "2")  # others find the stack as it was
        until(lambda: versions(stack, "half_plus_two") == [1], 20)
    assert stack.config.read_text() == listed
    assert set(answers) == {(2.5, 3.0)}


@contextmanager
def predictions(stack, per_second: int) -> Iterator[list[tuple[float, ...]]]:
    """The answers to callers of both doors who keep that pace together; a call that fails fails the
    test."""
    over, answers, slots = threading.Event(), [], itertools.count()
    began = time.monotonic()

    def ask(url: str) -> None:
        with Client(url) as client:
            while not over.is_set():
                time.sleep(max(0.0, began + next(slots) / per_second - time.monotonic()))
                answers.append(tuple(client.predict("half_plus_two", [1.0, 2.0]).tolist()))

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(ask, url) for url in (stack.http, stack.grpc) * 4]
        try:
            yield answers
        finally:
            took = time.monotonic() - began
            over.set()
        for caller in callers:
            caller.result()  # raises what the call raised
    assert len(answers) > 0.75 * per_second * took


def versions(stack, model: str) -> list[int]:
    """Those that the server itself says are there."""
    port = stack.ports["HEADRACE_SERVING_REST_PORT"]
    rows = get(f"http://127.0.0.1:{port}/v1/models/{model}")[1]["model_version_status"]
    return [int(row["version"]) for row in rows if row["state"] == "AVAILABLE"]


def test_an_interrupted_start_stops_what_it_started(spare_stack):
    # The gateway looks at a backend that is not up yet once a minute: the start is not over however
    # late this looks.
    rarely = {"HEADRACE_REFRESH_S": "60", "HEADRACE_PROBE_S": "60"}
    command = [sys.executable, "-m", "deploy", "up"]
    environment = spare_stack.environment | rarely
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as up:
        until(lambda: (spare_stack.run / "supervisord.pid").exists(), 60)
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 143
    assert not (spare_stack.run / "supervisord.pid").exists()
    assert "Nothing runs" in spare_stack.make("status").stdout


def test_a_verb_without_its_model_says_so(local_stack):
    done = local_stack.make("rollback")
    assert done.returncode != 0
    assert "make rollback MODEL=NAME" in done.stderr
