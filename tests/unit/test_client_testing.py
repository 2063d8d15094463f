"""FakeClient: as strict as the real client, without the network."""

from __future__ import annotations

import numpy as np
import pytest

from headrace import Client
from headrace.client.testing import FakeClient, FakeModel
from headrace.protocol.errors import InvalidArgument, NotFound, Unavailable


@pytest.fixture
def client() -> FakeClient:
    return FakeClient(
        {
            "half": FakeModel(lambda x: x / 2 + 2, inputs={"x": "float32"}, version=3),
            "both": FakeModel(
                lambda a, s: {"a": a, "n": [len(t) for t in s]}, inputs={"a": "int32", "s": object}
            ),
        }
    )


def test_a_function_answers_like_a_model(client: FakeClient) -> None:
    assert isinstance(client, Client)
    outputs = client.predict("half", [1.0, 2.0, 5.0], version=3)
    assert isinstance(outputs, np.ndarray)
    assert (outputs.dtype, outputs.tolist()) == (np.float32, [2.5, 3.0, 4.5])


def test_several_inputs_and_outputs_go_by_name(client: FakeClient) -> None:
    outputs = client.predict("both", {"a": [1], "s": ["é"]})
    assert isinstance(outputs, dict)
    assert {name: a.tolist() for name, a in outputs.items()} == {"a": [1], "n": [2]}


def test_calls_are_recorded(client: FakeClient) -> None:
    client.predict("half", [1], version=3)
    (call,) = client.calls
    assert (call.model, call.version, call.label, call.arrays["x"].dtype) == (
        "half",
        3,
        None,
        np.float32,
    )


def test_it_refuses_what_a_server_refuses(client: FakeClient) -> None:
    with pytest.raises(NotFound):
        client.predict("nobody", [1])
    with pytest.raises(NotFound):
        client.predict("half", [1], version=4)
    with pytest.raises(InvalidArgument, match="no input 'y'"):
        client.predict("half", {"y": [1]})
    with pytest.raises(InvalidArgument, match="missing: s"):
        client.predict("both", {"a": [1]})
    assert client.calls == []


def test_a_failure_can_be_simulated(client: FakeClient) -> None:
    client.fail_with = Unavailable("down")
    with pytest.raises(Unavailable, match="down"):
        client.predict("half", [1])
    assert client.ready("half") is False
    client.fail_with = None
    assert client.ready("half") is True


def test_the_other_methods_of_the_client_work(client: FakeClient) -> None:
    assert [m["name"] for m in client.models()] == ["both", "half"]
    assert client.status("half")[0].version == 3
    assert client.metadata("both")["serving_default"].required == ("a", "s")
    assert (client.ready(), client.ready("nobody")) == (True, False)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.models()
