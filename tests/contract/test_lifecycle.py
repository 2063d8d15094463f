"""The recorded command lines again, with ours: what a start says, what it serves, how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.protocol import messages
from headrace.store import records
from tests.contract.cases import LIFECYCLE
from tests.live import ROOT, Caller, until
from tests.ports import hold_ports

ROWS = [json.loads(line) for line in LIFECYCLE.read_text().splitlines()]
START_S = 20.0


@pytest.fixture
def store(contract_models: Path, tmp_path: Path) -> Path:
    """The folder that command lines call STORE."""
    half, two = contract_models / "half_plus_two", contract_models / "half_plus_two_2_versions"
    shutil.copytree(half, tmp_path / "saved_model_half_plus_two_cpu")
    shutil.copytree(half, tmp_path / "names")
    for name in ("abc", "12a", "1.5", ".124", "v1"):
        shutil.copytree(half / "123", tmp_path / "names" / name)
    shutil.copytree(two, tmp_path / "roll")
    for name, count in (("warm5", 5), ("warm1001", 1001)):
        shutil.copytree(half / "123", tmp_path / name / "1")
        warm(tmp_path / name / "1", count)
    (tmp_path / "bad_model_config.txt").write_text("this is no model config\n")
    (tmp_path / "mc.txt").write_text(config("default", half))
    (tmp_path / "other.txt").write_text(config("other", half))
    return tmp_path


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_command_line(row: Mapping[str, Any], store: Path, level: Callable[[str], None]) -> None:
    wanted = {**row, **row.get("ours", {})}
    with started(row, store) as (process, said, caller):
        if "exit_code" in wanted:
            assert process.wait(START_S) == wanted["exit_code"]
        for step in wanted.get("steps", ()):
            if "action" in step:
                ACTIONS[step["action"]](store)
            else:
                until(
                    lambda step=step: unlike(step, process, caller) == "",
                    START_S,
                    lambda: told(store),
                )
        if wanted.get("exit_after_sigterm") is not None:
            until(lambda: "Running gRPC" in told(store), START_S, lambda: told(store))
            process.send_signal(signal.SIGTERM)
            assert process.wait(START_S) == wanted["exit_after_sigterm"]
    if "stdout" in wanted:
        assert said.read_text().startswith(wanted["stdout"].replace("STORE", str(store)))
    level("ours" if "ours" in row else "bytes" if "stdout" in row else "parsed")


def told(store: Path) -> str:
    return (store / "stderr.log").read_text()


def unlike(step: Mapping[str, Any], process: subprocess.Popen[bytes], caller: Caller) -> str:
    """What of a step is not yet as it was seen; "" when all is."""
    if process.poll() != step["exit_code"]:
        return f"exit code {process.poll()}"
    for door, port in (("rest_open", caller.rest_port), ("grpc_open", caller.grpc_port)):
        if is_open(port) != step[door]:
            return door
    if (
        "states" in step
        and {str(v): s for v, s in caller.states("default").items()} != step["states"]
    ):
        return "states"
    for name, ask in (
        ("status", lambda: caller.get("/v1/models/default")),
        ("predict", lambda: predict(caller)),
    ):
        if name in step:
            answer = ask()
            if [answer.status, answer.json] != step[name]:
                return f"{name}: {answer.body!r}"
    return ""


def predict(caller: Caller) -> Any:
    return caller.predict("default", {"instances": [1.0]})


def corrupt(store: Path) -> None:
    """As an interrupted copy leaves it: the variables are short."""
    shutil.copytree(store / "roll" / "124", store / "roll" / ".125")
    data = next((store / "roll" / ".125" / "variables").glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:3])
    (store / "roll" / ".125").rename(store / "roll" / "125")


def delete_all(store: Path) -> None:
    for version in (store / "roll").iterdir():
        shutil.rmtree(version)


ACTIONS: Mapping[str, Callable[[Path], object]] = {
    "corrupt 125": corrupt,
    "delete all versions": delete_all,
    "rewrite config to other model": lambda store: os.replace(
        store / "other.txt", store / "mc.txt"
    ),
}


@contextmanager
def started(
    row: Mapping[str, Any], store: Path
) -> Iterator[tuple[subprocess.Popen[bytes], Path, Caller]]:
    """The process, its standard output, and who speaks to it; ports are free ones, but for one said
    to be taken."""
    grpc_port, rest_port = hold_ports(2)
    ports = {"18500": str(grpc_port), "18501": str(rest_port)}
    said = store / "stdout.log"
    with socket.socket() as taken, said.open("wb") as out, (store / "stderr.log").open("wb") as log:
        if row.get("note") == "REST port already in use":
            taken.bind(("127.0.0.1", rest_port))
            taken.listen()
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "headrace",
                "serve",
                *(argument(a, ports, store) for a in row["args"]),
            ],
            cwd=ROOT,
            stdout=out,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        caller = Caller("127.0.0.1", rest_port, grpc_port)
        try:
            yield process, said, caller
        finally:
            caller.close()
            if process.poll() is None:
                process.kill()
            process.wait()


def argument(text: str, ports: Mapping[str, str], store: Path) -> str:
    name, equals, value = text.replace("STORE", str(store)).partition("=")
    return f"{name}{equals}{ports.get(value, value)}"


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def config(name: str, path: Path) -> str:
    return (
        f'model_config_list {{ config {{ name: "{name}" base_path: "{path}" model_platform: '
        f'"tensorflow" }} }}\n'
    )


def warm(version: Path, count: int) -> None:
    log = messages.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = "any"
    request.inputs["x"].CopyFrom(
        messages.TensorProto(dtype=1, tensor_shape={"dim": [{"size": 1}]}, float_val=[1.0])
    )
    extra = version / "assets.extra"
    extra.mkdir()
    with (extra / "tf_serving_warmup_requests").open("wb") as file:
        records.write(file, [log.SerializeToString()] * count)
