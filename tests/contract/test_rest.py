"""Recorded REST exchanges of a real TensorFlow Serving, against ours: predict, status, metadata and bad requests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract import cases
from tests.contract.cases import Case
from tests.live import Answer, LiveServer

FROM_THE_GRAPH = re.compile(r"\{\{(function_)?node|\[\[")  # node names in it are the recorded export's
NOT_SERVED_YET = re.compile(r":(classify|regress)$|^/monitoring/")


def is_served(case: Case) -> bool:
    malformed = case.error is not None and case.error.startswith("Malformed")
    return malformed or not NOT_SERVED_YET.search(case.path)


CASES = [case for case in cases.rest() if is_served(case)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_recorded_exchange(case: Case, server: Callable[[str], LiveServer]) -> None:
    live = server(case.server)

    answer = send(live, case)

    if case.ours:
        assert answer.status == case.ours.status or (case.ours.status is None and 400 <= answer.status < 500)
    else:
        assert answer.status == case.status
        assert_same_headers(answer, case)
        assert_same_body(answer, case)
    assert live.process.poll() is None
    assert live.predict("half_plus_two", {"instances": [1.0, 2.0, 5.0]}).json == {"predictions": [2.5, 3.0, 4.5]}


def send(live: LiveServer, case: Case) -> Answer:
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


def assert_same_body(answer: Answer, case: Case) -> None:
    if case.error is not None and FROM_THE_GRAPH.search(case.error):
        assert said_by_the_graph(answer.json["error"]) == said_by_the_graph(case.error)
    elif case.path.endswith("/metadata") and case.status == 200:
        assert unordered(answer.body) == unordered(case.answer)
    elif case.answer:
        assert answer.body == case.answer


def said_by_the_graph(text: str) -> str:
    """Its kind: what comes before the names of nodes."""
    assert FROM_THE_GRAPH.search(text)
    return text.split("\n\t [[")[0].split(":")[0]


def unordered(body: bytes) -> Any:
    return json.loads(body)


def test_metadata_is_laid_out_as_recorded(server: Callable[[str], LiveServer]) -> None:
    """Byte for byte where the recorded order of signatures is the only one possible."""
    recorded = next(c for c in CASES if c.path == "/v1/models/scalar_out/metadata")

    answer = server("A").get(recorded.path)

    assert sorted(answer.body.splitlines()) == sorted(recorded.answer.splitlines())


def test_every_kind_of_case_is_there() -> None:
    paths = [case.path for case in CASES]

    assert len(CASES) > 240
    assert {case.server for case in CASES} == {"A", "B", "C", "C1", "D"}
    assert sum(path.endswith(":predict") for path in paths) > 150
    assert sum(path.endswith("/metadata") for path in paths) > 5
