"""Golden requests as calls by REST, for each of the three methods."""

from __future__ import annotations

import numpy as np

from headrace.store.golden import GoldenRequest
from trainer.data import examples
from trainer.exports import golden, rest_example
from trainer.exports.rest_example import RestExample

ROWS = examples.serialized(
    {"x": np.array([1.0, 2.0], np.float32), "name": np.array([b"a", "b"], object)}
)
INPUTS = {"inputs": golden.to_json(ROWS)}
EXAMPLES = [{"name": "a", "x": 1.0}, {"name": "b", "x": 2.0}]


def test_predict_leaves_out_the_name_of_a_single_input_and_of_the_default_signature() -> None:
    request = GoldenRequest("serving_default", {"x": [1.0, 2.0]}, {"y": [2.5, 3.0]})
    assert rest_example.from_golden(request, "predict") == RestExample(
        "predict", {"inputs": [1.0, 2.0]}, {"outputs": [2.5, 3.0]}
    )
    two = GoldenRequest("s", {"a": [1], "b": [2]}, {"c": [3], "d": [4]})
    body = {"signature_name": "s", "inputs": two.inputs}
    answer = {"outputs": two.outputs}
    assert rest_example.from_golden(two, "predict") == RestExample("predict", body, answer)


def test_bytes_that_are_text_are_sent_and_answered_as_text() -> None:
    text, picture = {"b64": "YQ=="}, {"b64": "iVBORw0KGgo="}
    request = GoldenRequest("s", {"a": [text, picture]}, {"b": [text], "c_bytes": [text]})
    call = rest_example.from_golden(request, "predict")
    assert call.body["inputs"] == ["a", picture]
    assert call.answer == {"outputs": {"b": ["a"], "c_bytes": [text]}}


def test_classify_sends_features_and_gets_pairs() -> None:
    outputs = {
        "classes": [[{"b64": "bm8="}, {"b64": "eWVz"}]] * 2,
        "scores": [[0.25, 0.75], [0.5, 0.5]],
    }
    call = rest_example.from_golden(GoldenRequest("classify", INPUTS, outputs), "classify")
    assert call.body == {"signature_name": "classify", "examples": EXAMPLES}
    assert call.answer == {"results": [[["no", 0.25], ["yes", 0.75]], [["no", 0.5], ["yes", 0.5]]]}
    unnamed = rest_example.from_golden(
        GoldenRequest("c", INPUTS, {"scores": [[2.5], [3.0]]}), "classify"
    )
    assert unnamed.answer == {"results": [[["", 2.5]], [["", 3.0]]]}


def test_regress_gets_a_number_for_each_example() -> None:
    for outputs in ([2.5, 3.0], [[2.5], [3.0]]):
        request = GoldenRequest("regress", INPUTS, {"outputs": outputs})
        assert rest_example.from_golden(request, "regress").answer == {"results": [2.5, 3.0]}


def test_the_first_row_alone() -> None:
    request = GoldenRequest("s", INPUTS, {"outputs": [2.5, 3.0]})
    call = rest_example.from_golden(rest_example.first_row(request), "regress")
    assert (call.body["examples"], call.answer) == (EXAMPLES[:1], {"results": [2.5]})
