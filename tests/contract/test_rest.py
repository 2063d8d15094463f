"""Every REST exchange of the case lists, recorded ones and written ones, against a live server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from headrace.protocol import messages
from tests.contract import cases
from tests.contract.cases import Case
from tests.live import Answer, Caller

FROM_THE_GRAPH = re.compile(
    r"\{\{(function_)?node|\[\["
)  # node names in it are the recorded export's
BLANKS_BY_CHANCE = re.compile(
    r"(goo\.gle/debug\w+) +"
)  # protobuf draws their number for each process
CASES = cases.rest()
COUNTER = "/v1/models/counter:predict"
STRENGTH = {"bytes": 3, "parsed": 2, "class": 1, "none": 0}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_exchange(
    case: Case, server: Callable[[str], Caller], is_ours: bool, level: Callable[[str], None]
) -> None:
    live = server(case.server)
    if case.died and not is_ours:
        pytest.skip("it would end the process")
    if case.path == COUNTER:
        count_up_to(case, live)

    answer = send(live, case)

    if case.ours and is_ours:
        assert answer.status == case.ours.status
        level("ours")
    else:
        assert answer.status == case.status
        assert_same_headers(answer, case)
        agreed = agreement(answer, case)
        assert STRENGTH[agreed] >= STRENGTH[wanted(case)], (
            f"{agreed}: {answer.body!r}, expected {case.answer!r}"
        )
        level(agreed)
    assert live.predict("half_plus_two", {"instances": [1.0, 2.0, 5.0]}).json == {
        "predictions": [2.5, 3.0, 4.5]
    }


def count_up_to(case: Case, live: Caller) -> None:
    """The counter goes on from one case to the next: to where it stood before this one when that
    was recorded."""
    reset_counter(live)
    for before in CASES[: CASES.index(case)]:
        if before.path == COUNTER:
            send(live, before)


def reset_counter(live: Caller) -> None:
    """By gRPC: REST cannot call a signature without inputs."""
    request = messages.PredictRequest(
        model_spec={"name": "counter", "signature_name": "reset_counter"}
    )
    live.channel.unary_unary(messages.PREDICT.path)(request.SerializeToString(), timeout=30)


def send(live: Caller, case: Case) -> Answer:
    if case.raw is not None:
        return live.send(case.raw, method=case.method)
    return live.request(case.method, case.path, headers=case.headers, body=case.body)


def assert_same_headers(answer: Answer, case: Case) -> None:
    got = {name.lower(): value for name, value in answer.headers.items()}
    for name, value in case.answer_headers.items():
        if name != "Connection":
            assert got.get(name.lower()) == value
    if case.closed:
        assert answer.closed


def wanted(case: Case) -> str:
    """How closely an answer must agree with the case's."""
    if case.is_metrics or (case.error is not None and FROM_THE_GRAPH.search(case.error)):
        return "class"
    if case.error is not None and BLANKS_BY_CHANCE.search(case.error):
        return "parsed"
    # The order of names in what TF Serving keeps in a hash map is nobody's promise.
    has_map = case.status == 200 and (
        case.path.endswith("/metadata") or "two_in_two_out" in case.path
    )
    return "parsed" if has_map else "bytes"


def agreement(answer: Answer, case: Case) -> str:
    if answer.body == case.answer:
        return "bytes"
    if case.is_metrics:
        return (
            "class"
            if b"# TYPE :tensorflow:" in answer.body and b"# TYPE :tensorflow:" in case.answer
            else "none"
        )
    mine, theirs = read(answer.body), read(case.answer)
    if mine == theirs:
        return "parsed"
    if case.error is not None and kind(str(mine)) == kind(str(theirs)):
        return "class"
    return "none"


def read(body: bytes) -> Any:
    """What compares once read; NaN as a word."""
    try:
        value = json.loads(body.decode("utf-8", "surrogateescape"), parse_constant=str)
    except ValueError:
        return body
    return (
        BLANKS_BY_CHANCE.sub(r"\1 ", value["error"])
        if isinstance(value, dict) and "error" in value
        else value
    )


def kind(text: str) -> str:
    """What a graph says before the names of nodes."""
    return text.split("\n\t [[")[0].split(":")[0] if FROM_THE_GRAPH.search(text) else text


def test_every_kind_of_case_is_there() -> None:
    paths = [case.path for case in CASES]

    assert len([case for case in CASES if not case.is_written]) == 292
    assert {case.server for case in CASES} == {"A", "B", "C", "C1", "D"}
    assert sum(path.endswith(":predict") for path in paths) > 150
    assert sum(path.endswith((":classify", ":regress")) for path in paths) > 60
    assert sum(path.endswith("/metadata") for path in paths) > 5
