from __future__ import annotations

import pytest

from gateway import errors

TEXTS = {
    "a node": ("x must be positive\n\t [[{{node assert/Assert}}]]", "x must be positive"),
    "a function": (
        "{{function_node __inference_f_12}} Incompatible shapes: [2] vs. [3]\n\t [[{{node add}}]]",
        "Incompatible shapes: [2] vs. [3]",
    ),
    "nodes within nodes": (
        "Matrix size-incompatible: In[0]: [1,3], In[1]: [2,1]\n\t [[{{node "
        "StatefulPartitionedCall/m/dense/MatMul}}]]"
        "\n\t [[StatefulPartitionedCall]]",
        "Matrix size-incompatible: In[0]: [1,3], In[1]: [2,1]",
    ),
    "an operation": ("Negative dimension [Op:Reshape] name: m/reshape", "Negative dimension"),
    "several": (
        "2 root error(s) found.\n  (0) INVALID_ARGUMENT: bad image\n\t [[{{node decode}}]]\n\t "
        "[[out/_7]]\n"
        "  (1) INVALID_ARGUMENT: bad image\n\t [[{{node decode}}]]\n0 successful operations.\n"
        "0 derived errors ignored.",
        "bad image",
    ),
    "a stack": (
        "indices[0] = 9 is not in [0, 5)\n\t [[{{node m/gather}}]]\nStack trace for op "
        "definition: \n"
        'File "/home/me/train.py", line 12, in build\n  x = tf.gather(t, i)',
        "indices[0] = 9 is not in [0, 5)",
    ),
    "where it was defined": (
        "Graph execution error:\n\nDetected at node 'm/dense' defined at (most recent call last):\n"
        'File "train.py", line 3, in f\n',
        "Graph execution error:",
    ),
    "an assertion": (
        "assertion failed: [x must be > 0] [Condition x > y did not hold] [x (m/x:0) = ] [-1] [y "
        "(m/y:0) = ] [0]",
        "assertion failed: [x must be > 0] [Condition x > y did not hold] [x =] [-1] [y =] [0]",
    ),
    "nothing but names": ("[[{{node a/b}}]]", "the model could not be run on this input"),
    "brackets of a caller": ("value [[1, 2]] is odd", "value [[1, 2]] is odd"),
}


@pytest.mark.parametrize(("text", "left"), TEXTS.values(), ids=TEXTS)
def test_the_sentence_is_left_and_the_graphs_names_are_not(text: str, left: str) -> None:
    assert errors.without_graph(text) == left


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"error": {}', b"\xff\xfe", b'{"no": "error"}']
)
def test_a_backend_that_explains_nothing_is_told_as_such(body: bytes) -> None:
    assert (
        errors.backend_text(body) == "the serving backend answered with an error it did not explain"
    )
