"""One stack whichever runtime carries it: these tests know two addresses and nothing else, and run
against both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import requests

from headrace import Client
from headrace.protocol import errors
from tests.local import LocalStack
from tests.system.project import Compose

PICTURES = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
INPUTS = {
    "half_plus_two": np.arange(4, dtype=np.float32),
    "imdb_cnn": np.array([b"a wonderful film", b"dull and far too long"], object),
    "linear_model": np.array([[130.0, 3504.0]], np.float32),
    "mnist_cnn": PICTURES,
    "mnist_mlp": PICTURES,
    "titanic": {
        **{
            name: np.array([text], object)
            for name, text in (("name", b"Allen, Miss. Ann"), ("sex", b"female"))
        },
        **{
            name: np.array([text], object)
            for name, text in (("embarked", b"S"), ("ticket", b"113803"))
        },
        **{
            name: np.array([number], np.int64)
            for name, number in (("pclass", 1), ("sibsp", 0), ("parch", 0))
        },
        **{
            name: np.array([number], np.float32) for name, number in (("age", 29.0), ("fare", 53.1))
        },
    },
}
MODELS = sorted(INPUTS)


@dataclass(frozen=True)
class Address:
    http: str
    grpc: str


@pytest.fixture(scope="module", params=["compose", "local"])
def address(request: pytest.FixtureRequest) -> Address:
    if request.param == "local":
        local: LocalStack = request.getfixturevalue("local_stack")
        return Address(local.http, local.grpc)
    compose: Compose = request.getfixturevalue("started")[0]
    return Address(compose.url, f"grpc://{compose.address(port=8001)}")


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, address: Address):
    with Client(getattr(address, request.param)) as found:
        yield found


def test_known_answer(client: Client) -> None:
    assert client.predict("half_plus_two", np.array([1.0, 2.0, 5.0], np.float32)).tolist() == [
        2.5,
        3.0,
        4.5,
    ]


def test_named_columns(client: Client) -> None:
    columns = {
        "horsepower": np.array([130.0, 70.0], np.float32),
        "weight": np.array([3504.0, 2000.0], np.float32),
    }
    found = client.predict("linear_model", columns, signature="columns")
    assert found.shape == (2,) or found.shape == (2, 1)
    heavy, light = found.reshape(-1)
    assert 0 < heavy < light < 60  # miles per gallon


def test_pictures(client: Client) -> None:
    found = client.predict("mnist_cnn", np.zeros((3, 28, 28, 1), np.float32))
    assert found.shape == (3, 10)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_both_doors_answer_alike(address: Address, model: str) -> None:
    inputs = INPUTS[model]
    with Client(address.http) as rest, Client(address.grpc) as grpc:
        np.testing.assert_allclose(
            rest.predict(model, inputs), grpc.predict(model, inputs), rtol=1e-6, atol=1e-9
        )


def test_the_curl_call_of_the_readme(address: Address) -> None:
    answer = requests.post(
        f"{address.http}/v1/models/half_plus_two:predict",
        data='{"instances": [1.0, 2.0, 5.0]}',
        timeout=10,
    )
    assert answer.json() == {"predictions": [2.5, 3.0, 4.5]}


@pytest.mark.parametrize(
    ("model", "body", "status"),
    [
        ("half_plus_two", "{", 400),
        ("half_plus_two", "[]", 400),
        ("half_plus_two", "{}", 400),
        ("half_plus_two", '{"instances": [1], "inputs": [1]}', 400),
        ("half_plus_two", '{"instances": ["a"]}', 400),
        ("half_plus_two", '{"instances": []}', 400),
        ("half_plus_two", '{"instances": [[1.0], [2.0, 3.0]]}', 400),
        ("half_plus_two", '{"instances": [1.0], "signature_name": "other"}', 400),
        ("mnist_cnn", '{"instances": [[1.0, 2.0]]}', 400),
        ("linear_model", '{"instances": [[1.0, 2.0, 3.0]]}', 400),
        ("no_such_model", '{"instances": [1.0]}', 404),
        ("half_plus_two/versions/999", '{"instances": [1.0]}', 404),
        ("half_plus_two/labels/none", '{"instances": [1.0]}', 400),
    ],
)
def test_bad_input_is_told_in_the_callers_terms_and_harms_nobody(
    address: Address, model: str, body: str, status: int
) -> None:
    answer = requests.post(f"{address.http}/v1/models/{model}:predict", data=body, timeout=10)
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["error"], str)
    with Client(address.http) as client:
        assert client.predict("half_plus_two", np.array([1.0], np.float32)).tolist() == [2.5]


def test_wrong_shape_over_either_door_is_refused_before_the_graph(client: Client) -> None:
    with pytest.raises(errors.InvalidArgument):
        client.predict("mnist_cnn", np.zeros((1, 27, 28, 1), np.float32))


def test_models_are_listed_and_available(address: Address) -> None:
    models = requests.get(f"{address.http}/v1/models", timeout=5).json()["models"]
    assert sorted(m["name"] for m in models) == MODELS
    assert all(any(v["state"] == "AVAILABLE" for v in m["versions"]) for m in models)


@pytest.mark.parametrize("model", MODELS)
def test_status_and_metadata_are_tensorflow_servings(address: Address, model: str) -> None:
    status = requests.get(f"{address.http}/v1/models/{model}", timeout=5).json()
    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    metadata = requests.get(f"{address.http}/v1/models/{model}/metadata", timeout=5).json()
    assert "serving_default" in metadata["metadata"]["signature_def"]["signature_def"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/docs"])
def test_service_pages_answer(address: Address, path: str) -> None:
    assert requests.get(address.http + path, timeout=5).status_code == 200


def test_readiness_of_one_model(address: Address) -> None:
    assert requests.get(f"{address.http}/readyz?model=half_plus_two", timeout=5).status_code == 200
    assert requests.get(f"{address.http}/readyz?model=no_such_model", timeout=5).status_code in (
        404,
        503,
    )
