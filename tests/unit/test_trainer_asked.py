"""Golden requests as calls by REST, for each of the three methods."""

from __future__ import annotations

import numpy as np

from trainer.data import examples
from trainer.exports import asked, golden

ROWS = examples.serialized(
    {"x": np.array([1.0, 2.0], np.float32), "name": np.array([b"a", "b"], object)}
)
INPUTS = {"inputs": golden.to_json(ROWS)}
EXAMPLES = [{"name": "a", "x": 1.0}, {"name": "b", "x": 2.0}]


def test_predict_leaves_out_the_name_of_a_single_input_and_of_the_default_signature() -> None:
    request = {
        "signature_name": "serving_default",
        "inputs": {"x": [1.0, 2.0]},
        "outputs": {"y": [2.5, 3.0]},
    }
    assert asked.call(request, "predict") == asked.Call(
        "predict", {"inputs": [1.0, 2.0]}, {"outputs": [2.5, 3.0]}
    )
    two = {"signature_name": "s", "inputs": {"a": [1], "b": [2]}, "outputs": {"c": [3], "d": [4]}}
    body, answer = {"signature_name": "s", "inputs": two["inputs"]}, {"outputs": two["outputs"]}
    assert asked.call(two, "predict") == asked.Call("predict", body, answer)


def test_bytes_that_are_text_are_sent_and_answered_as_text() -> None:
    text, picture = {"b64": "YQ=="}, {"b64": "iVBORw0KGgo="}
    request = {
        "signature_name": "s",
        "inputs": {"a": [text, picture]},
        "outputs": {"b": [text], "c_bytes": [text]},
    }
    call = asked.call(request, "predict")
    assert call.body["inputs"] == ["a", picture]
    assert call.answer == {"outputs": {"b": ["a"], "c_bytes": [text]}}


def test_classify_sends_features_and_gets_pairs() -> None:
    outputs = {
        "classes": [[{"b64": "bm8="}, {"b64": "eWVz"}]] * 2,
        "scores": [[0.25, 0.75], [0.5, 0.5]],
    }
    call = asked.call(
        {"signature_name": "classify", "inputs": INPUTS, "outputs": outputs}, "classify"
    )
    assert call.body == {"signature_name": "classify", "examples": EXAMPLES}
    assert call.answer == {"results": [[["no", 0.25], ["yes", 0.75]], [["no", 0.5], ["yes", 0.5]]]}
    unnamed = asked.call(
        {"signature_name": "c", "inputs": INPUTS, "outputs": {"scores": [[2.5], [3.0]]}}, "classify"
    )
    assert unnamed.answer == {"results": [[["", 2.5]], [["", 3.0]]]}


def test_regress_gets_a_number_for_each_example() -> None:
    for outputs in ([2.5, 3.0], [[2.5], [3.0]]):
        request = {"signature_name": "regress", "inputs": INPUTS, "outputs": {"outputs": outputs}}
        assert asked.call(request, "regress").answer == {"results": [2.5, 3.0]}


def test_the_first_row_alone() -> None:
    request = {"signature_name": "s", "inputs": INPUTS, "outputs": {"outputs": [2.5, 3.0]}}
    call = asked.call(asked.first_row(request), "regress")
    assert (call.body["examples"], call.answer) == (EXAMPLES[:1], {"results": [2.5]})
