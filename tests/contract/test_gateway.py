"""Every case of the lists again, through the gateway: the same status class and the same success
bodies, but for the rules in docs/compatibility.md, section Gateway; and clients that are not ours,
unmodified."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from headrace.protocol import messages
from tests.contract import cases, servers
from tests.contract import test_official_client as official_client
from tests.contract.cases import Case, GrpcCase
from tests.contract.test_grpc import METHODS, call_of, unpacked
from tests.contract.test_grpc import send as send_grpc
from tests.contract.test_rest import STRENGTH, agreement, reset_counter, send, wanted
from tests.live import ROOT, Caller, LiveGateway

PAGE = ROOT / "docs" / "compatibility.md"
AMBIGUOUS = ("duplicate_key", "trailing_bytes", "byte_order_mark")


@pytest.fixture(scope="session")
def behind(
    server: Callable[[str], Caller], contract_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., LiveGateway]]:
    """A gateway before the server of a recorded configuration, lenient for its models or strict."""
    running: dict[tuple[str, bool, str], LiveGateway] = {}

    def named(letter: str, lenient: bool, protocol: str = "auto") -> LiveGateway:
        key = (letter, lenient, protocol)
        if key not in running:
            entries, _ = servers.configuration(letter, contract_models)
            folder = tmp_path_factory.mktemp(f"gateway-{letter}")
            config = folder / "models.config"
            config.write_text(servers.config_text(entries))
            settings = {
                "UPSTREAM_PROTOCOL": protocol,
                "LENIENT_MODELS": ",".join(entries) if lenient else "",
            }
            running[key] = LiveGateway(folder, server(letter), config, settings)
        return running[key]

    yield named
    for gateway in running.values():
        gateway.close()


@pytest.mark.parametrize("protocol", ["auto", pytest.param("grpc", marks=pytest.mark.long)])
def test_lenient_every_case_agrees_or_falls_under_a_rule(
    behind: Callable[..., LiveGateway], protocol: str
) -> None:
    ruled: Counter[str] = Counter()
    trouble = []
    reset_counter(behind("A", True, protocol))
    for case in (*cases.rest(), *cases.grpc()):
        if case.server in servers.LETTERS:
            rule, said = outcome(behind(case.server, True, protocol), case)
            trouble += [f"{case.id}: {said}"] if rule is None else []
            ruled[rule or ""] += 1
    assert not trouble, "\n".join(trouble)
    assert told_on_the_page("lenient") == {rule: n for rule, n in ruled.items() if rule}


def test_strict_refuses_by_the_same_rules_and_by_shape(behind: Callable[..., LiveGateway]) -> None:
    ruled: Counter[str] = Counter()
    trouble = []
    reset_counter(behind("A", False))
    for case in (*cases.rest(), *cases.grpc()):
        if case.server in servers.LETTERS:
            rule, said = outcome(behind(case.server, False), case)
            trouble += [f"{case.id}: {said}"] if rule is None else []
            ruled[rule or ""] += 1
    assert not trouble, "\n".join(trouble)
    assert told_on_the_page("strict") == {rule: n for rule, n in ruled.items() if rule}


def outcome(gateway: Caller, case: Case | GrpcCase) -> tuple[str | None, str]:
    """ "" where the case agrees, the rule it falls under where it does not, None where there is
    none; and what came."""
    return rest_outcome(gateway, case) if isinstance(case, Case) else grpc_outcome(gateway, case)


def rest_outcome(gateway: Caller, case: Case) -> tuple[str | None, str]:
    answer = send(gateway, case)
    status = case.ours.status if case.ours else case.status
    assert isinstance(status, int)
    said = f"{answer.status} {answer.body[:200]!r}, recorded {status}"
    if answer.status // 100 == status // 100:
        is_same = (
            status >= 300
            or case.ours
            or STRENGTH[agreement(answer, case)] >= STRENGTH[wanted(case)]
        )
        return ("" if is_same else None), said
    kinds = kinds_of(answer.body)
    if not case.path.lower().startswith("/v1/"):
        return "other paths", said
    if answer.status == 405 or case.method not in ("GET", "POST"):
        return "methods", said
    if answer.status in (413, 415):
        return {413: "body size", 415: "content encoding"}[answer.status], said
    return (rule_of(kinds) if answer.status == 400 else None), said


def grpc_outcome(gateway: Caller, case: GrpcCase) -> tuple[str | None, str]:
    status = case.ours.status if case.ours else case.status
    path, request = call_of(case)
    try:
        got = send_grpc(gateway, path, request)
    except grpc.RpcError as error:
        code = error.code().name
        said = f"{code} {error.details()}, recorded {status}"
        if code == status:
            return "", said
        told = dict(error.trailing_metadata() or ()).get("headrace-details", "[]")
        if code == "UNIMPLEMENTED":
            return "other services", said
        if "not a tensorflow.serving." in (error.details() or ""):
            return "broken messages", said
        return rule_of([row["kind"] for row in json.loads(told)]), said
    if status != "OK" or case.ours:
        return ("" if status == "OK" else None), f"OK, recorded {status}"
    if isinstance(case.response, bytes):
        return ("" if got == case.response else None), "another answer"
    method = METHODS[case.method]
    is_same = unpacked(method.response.FromString(got)) == unpacked(
        messages.parse_text(method.response, case.response)
    )
    return ("" if is_same else None), "another answer"


def kinds_of(body: bytes) -> list[str]:
    try:
        return [row["kind"] for row in json.loads(body)["details"]]
    except (ValueError, KeyError, TypeError):
        return []


def rule_of(kinds: list[str]) -> str | None:
    if any(kind in AMBIGUOUS for kind in kinds):
        return "ambiguous bodies"
    if "unknown_input" in kinds:
        return "unknown columns"
    if "tensor" in kinds:
        return "unknown rank"
    return "shapes" if "input_shape" in kinds else None


def told_on_the_page(mode: str) -> Mapping[str, int]:
    """Rule -> how many cases fall under it, from the table of section Gateway."""
    section = PAGE.read_text().split("\n## Gateway\n")[1]
    rows = re.findall(r"^\| ([a-z ]+) \|.*\| (\d+) \| (\d+) \|$", section, re.MULTILINE)
    assert rows
    return {rule: n for rule, *counts in rows if (n := int(counts[mode == "strict"]))}


@pytest.fixture
def door(behind: Callable[..., LiveGateway]) -> LiveGateway:
    return behind("A", True)


@pytest.mark.parametrize("call", ["predict", "classify", "regress", "multi_inference", "metadata"])
def test_the_official_clients_calls_work_unmodified(door: LiveGateway, call: str) -> None:
    stub = official_client.Stub(door.channel, "tensorflow.serving.PredictionService")
    getattr(official_client, f"test_{call}")(stub)


def test_the_official_clients_status_works_unmodified(door: LiveGateway) -> None:
    official_client.test_status(
        official_client.Stub(door.channel, "tensorflow.serving.ModelService")
    )


# TensorFlow Serving's guides, but for the port.
GUIDE = {
    "predict": (
        """curl -d '{"instances": [1.0, 2.0, 5.0]}' -X POST http://localhost:8501/v1/models/half_plus_two:predict""",
        {"predictions": [2.5, 3.0, 4.5]},
    ),
    "columns": (
        """curl -d '{"inputs": [1.0, 2.0, 5.0]}' -X POST http://localhost:8501/v1/models/half_plus_two:predict""",
        {"outputs": [2.5, 3.0, 4.5]},
    ),
    "regress": (
        """curl -d '{"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}, {"x": 2.0}]}' """
        """-X POST http://localhost:8501/v1/models/half_plus_two:regress""",
        {"results": [2.5, 3.0]},
    ),
    "status": (
        "curl http://localhost:8501/v1/models/half_plus_two",
        {
            "model_version_status": [
                {
                    "version": "123",
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
            ]
        },
    ),
}


@pytest.mark.parametrize(("line", "answer"), GUIDE.values(), ids=GUIDE)
def test_the_guides_curl_lines_work(door: LiveGateway, line: str, answer: Any) -> None:
    line = line.replace("localhost:8501", f"127.0.0.1:{door.rest_port}")
    assert json.loads(curl(line)) == answer


def curl(line: str) -> bytes:
    """What curl prints; the same call by the standard library where there is no curl."""
    words = shlex.split(line)
    if shutil.which("curl"):
        return subprocess.run(words, check=True, capture_output=True, timeout=30).stdout
    body = words[words.index("-d") + 1].encode() if "-d" in words else None
    with urllib.request.urlopen(
        words[-1], data=body, timeout=30
    ) as got:  # like curl, it calls any body a form
        return bytes(got.read())
