"""The document of the gateway's API and the schemas follow the live signatures; its examples are
good requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.app import App
from gateway.contracts import samples
from headrace.protocol import messages, signatures, tensors
from headrace.store import records
from tests.unit.gateway_backend import (
    FakeBackend,
    Version,
    ask,
    eventually,
    gateway,
    model_list,
    signature,
)

FLOAT, INT32, STRING, BOOL, HALF_FLOAT = 1, 3, 7, 10, 19
NAMES = ("half", "image", "judge", "kinds", "odd name~1", "scalar", "text", "wide", "halves")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "multimodel.config"
    path.write_text(model_list(*NAMES))
    return path


@pytest.fixture
def backend() -> FakeBackend:
    takes_examples = {"inputs": (STRING, [-1])}
    return FakeBackend(
        models={name: {1: Version()} for name in NAMES},
        signatures={
            "half": {
                "serving_default": signature({"x": (FLOAT, [-1])}),
                "two": signature(
                    {"a": (FLOAT, [-1]), "b": (STRING, [-1, 2])}, outputs=("y", "z_bytes")
                ),
                "__saved_model_init_op": signature({}),
            },
            "halves": {"serving_default": signature({"x": (HALF_FLOAT, [-1])})},
            "image": {"serving_default": signature({"image": (FLOAT, [-1, 2, 2, 1])})},
            "judge": {"serving_default": signature(takes_examples, outputs=("scores",))},
            "kinds": {"serving_default": signature({"i": (INT32, [-1]), "b": (BOOL, None)})},
            "odd name~1": {"serving_default": signature({"x": (FLOAT, [-1])})},
            "scalar": {"serving_default": signature({"x": (FLOAT, [])})},
            "text": {"serving_default": signature({"s": (STRING, [-1])})},
            "wide": {"serving_default": signature({"x": (FLOAT, [-1, 224, 224, 3])})},
        },
    )


def run(
    backend: FakeBackend, config: Path, work: Callable[[App], Awaitable[Any]], **changes: Any
) -> Any:
    async def main() -> Any:
        app = gateway(backend, config, **changes)
        async with app.core:
            await eventually(lambda: all(m.has_status for m in app.core.catalog.models.values()))
            return await work(app)

    return asyncio.run(main())


def document(backend: FakeBackend, config: Path) -> Any:
    return run(backend, config, lambda app: ask(app, "GET", "/openapi.json")).json()


def examples(described: Any) -> list[tuple[str, str, Any, Any]]:
    """Path, signature, body and schema of every example."""
    return [
        (path, name, example["value"], content["schema"])
        for path, methods in described["paths"].items()
        for operation in methods.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for name, example in content.get("examples", {}).items()
    ]


def test_the_document_is_openapi_3_1(backend: FakeBackend, config: Path) -> None:
    described = document(backend, config)
    assert described["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(described).validate()


def test_every_model_has_paths_of_its_own(backend: FakeBackend, config: Path) -> None:
    described = document(backend, config)
    for path in (
        "half:predict",
        "half",
        "half/metadata",
        "half/schema",
        "odd%20name~1:predict",
        "judge:classify",
    ):
        assert f"/v1/models/{path}" in described["paths"]
    assert "/v1/models/half:classify" not in described["paths"]
    assert "/v1/models/{model}/labels/{label}:regress" in described["paths"]
    content = described["paths"]["/v1/models/text:predict"]["post"]["requestBody"]["content"]
    assert {"application/json", "image/png", "image/jpeg"} == set(content)
    content = described["paths"]["/v1/models/image:predict"]["post"]["requestBody"]["content"]
    assert {"application/json", "application/x-npy", "application/x-npz"} == set(content)


def test_every_example_fits_its_schema_and_runs_as_it_stands(
    backend: FakeBackend, config: Path
) -> None:
    async def work(app: App) -> list[str]:
        described = (await ask(app, "GET", "/openapi.json")).json()
        shown = examples(described)
        for path, name, body, schema in shown:
            jsonschema.Draft202012Validator(schema).validate(body)
            answer = await ask(app, "POST", path, json.dumps(body).encode())
            assert answer.status == 200, (path, name, answer.body)
        return [f"{path} {name}" for path, name, *_ in shown]

    ran = run(backend, config, work)
    assert (
        "/v1/models/half:predict two" in ran and "/v1/models/kinds:predict serving_default" in ran
    )
    assert (
        len(ran) == 8
    )  # of all but those without JSON values, of unknown features, and of 150,000 numbers


def test_the_document_follows_a_swap(backend: FakeBackend, config: Path) -> None:
    async def work(app: App) -> None:
        async def sees(alias: str) -> bool:
            schemas = (await ask(app, "GET", "/v1/models/half/schema")).json()
            paths = (await ask(app, "GET", "/openapi.json")).json()["paths"]
            described = json.dumps(paths["/v1/models/half:predict"])
            return (
                alias in json.dumps(schemas["signatures"]["serving_default"]["request"])
                and f'"{alias}"' in described
            )

        assert await sees("x")
        backend.models["half"] = {2: Version()}
        backend.signatures["half"] = {"serving_default": signature({"fresh": (FLOAT, [-1])})}
        async with asyncio.timeout(2):
            while not await sees("fresh"):
                await asyncio.sleep(0.01)

    run(backend, config, work, refresh_s=0.5)


SCHEMA_CASES: dict[str, tuple[str, str, Any, bool]] = {
    "rows": ("half", "serving_default", {"instances": [1.0, 2]}, True),
    "named rows": ("half", "serving_default", {"instances": [{"x": 1.0}]}, True),
    "columns": ("half", "serving_default", {"inputs": [1.0]}, True),
    "named columns": ("half", "serving_default", {"inputs": {"x": [1.0]}}, True),
    "another key beside": ("half", "serving_default", {"instances": [1.0], "note": "mine"}, True),
    "a string": ("half", "serving_default", {"instances": ["a"]}, False),
    "both keys": ("half", "serving_default", {"instances": [1.0], "inputs": [1.0]}, False),
    "neither key": ("half", "serving_default", {}, False),
    "no rows": ("half", "serving_default", {"instances": []}, False),
    "another input": ("half", "serving_default", {"inputs": {"z": [1.0]}}, False),
    "two inputs": (
        "half",
        "two",
        {"signature_name": "two", "instances": [{"a": 1, "b": ["x", {"b64": ""}]}]},
        True,
    ),
    "two inputs, one missing": (
        "half",
        "two",
        {"signature_name": "two", "instances": [{"a": 1}]},
        False,
    ),
    "no signature_name": ("half", "two", {"instances": [{"a": 1, "b": ["x", "y"]}]}, False),
    "an image": ("image", "serving_default", {"instances": [[[[0], [0]], [[0], [0]]]]}, True),
    "a row short": ("image", "serving_default", {"instances": [[[[0], [0]]]]}, False),
    "any shape": ("kinds", "serving_default", {"inputs": {"i": [1], "b": [[True]]}}, True),
    "a fraction": ("kinds", "serving_default", {"inputs": {"i": [1.5], "b": True}}, False),
    "rows of a scalar": ("scalar", "serving_default", {"instances": [1.0]}, False),
    "a scalar": ("scalar", "serving_default", {"inputs": 1.0}, True),
    "half precision": ("halves", "serving_default", {"instances": [1.0]}, False),
}


@pytest.mark.parametrize(("model", "name", "body", "fits"), SCHEMA_CASES.values(), ids=SCHEMA_CASES)
def test_the_schema_takes_what_the_gateway_takes(
    backend: FakeBackend, config: Path, model: str, name: str, body: Any, fits: bool
) -> None:
    async def work(app: App) -> tuple[Any, int]:
        schemas = (await ask(app, "GET", f"/v1/models/{model}/schema")).json()
        answer = await ask(app, "POST", f"/v1/models/{model}:predict", json.dumps(body).encode())
        return schemas, answer.status

    schemas, status = run(backend, config, work)
    validator = jsonschema.Draft202012Validator(schemas["signatures"][name]["request"])
    validator.check_schema(schemas["signatures"][name]["request"])
    assert validator.is_valid(body) is fits
    if name == "serving_default" or "signature_name" in body:
        assert (status == 200) is fits
    assert (schemas["model"], schemas["version"]) == (model, 1)


def test_how_a_model_starts_is_no_signature_of_its_schema_and_list(
    backend: FakeBackend, config: Path
) -> None:
    async def work(app: App) -> tuple[Any, Any]:
        schemas = (await ask(app, "GET", "/v1/models/half/schema")).json()
        return schemas, (await ask(app, "GET", "/v1/models")).json()

    schemas, listed = run(backend, config, work)
    assert set(schemas["signatures"]) == {"serving_default", "two"}
    assert set(listed["models"][0]["signatures"]) == {"serving_default", "two"}


@pytest.mark.parametrize("path", ["/v1/models/nobody/schema", "/v1/models/half/versions/9/schema"])
def test_the_schema_of_nobody_is_404(backend: FakeBackend, config: Path, path: str) -> None:
    assert run(backend, config, lambda app: ask(app, "GET", path)).status == 404


KNOWN = {
    "serving_default": signatures.from_signature_def(
        "serving_default", signature({"x": (FLOAT, [-1, 2])})
    ),
    "other": signatures.from_signature_def(
        "other", signature({"x": (FLOAT, [-1, 2]), "s": (STRING, [-1])})
    ),
}


def test_golden_requests_beside_a_version_are_its_examples(tmp_path: Path) -> None:
    golden = [
        {"signature_name": "serving_default", "inputs": {"x": [[1.5, 2.5], [3.0, 4.0]]}},
        {"signature_name": "other", "inputs": {"x": [[1.0, 2.0]], "s": [{"b64": "aGk="}]}},
        {"signature_name": "gone", "inputs": {"x": [1.0]}},
    ]
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "golden.json").write_text(json.dumps(golden))
    assert samples.for_signatures(KNOWN, tmp_path) == {
        "serving_default": {"instances": [[1.5, 2.5]]},
        "other": {
            "signature_name": "other",
            "instances": [{"x": [1.0, 2.0], "s": {"b64": "aGk="}}],
        },
    }


def test_warm_up_requests_beside_a_version_are_its_examples(tmp_path: Path) -> None:
    log = messages.PredictionLog()
    log.predict_log.request.model_spec.name = "m"
    log.predict_log.request.inputs["x"].CopyFrom(tensors.to_proto(np.float32([[1.5, 2.5]])))
    (tmp_path / "assets.extra").mkdir()
    with (tmp_path / "assets.extra" / "tf_serving_warmup_requests").open("wb") as file:
        records.write(file, [log.SerializeToString()])
    assert samples.for_signatures(KNOWN, tmp_path)["serving_default"] == {
        "signature_name": "serving_default",
        "inputs": {"x": [[1.5, 2.5]]},
    }


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        '[{"signature_name": "serving_default", "inputs": {"x": "a"}}]',
        '[{"signature_name": [], "inputs": {}}]',
    ],
)
def test_golden_requests_that_are_broken_or_do_not_fit_are_passed_over(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "golden.json").write_text(content)
    assert samples.for_signatures(KNOWN, tmp_path)["serving_default"] == {"instances": [[1, 1]]}
