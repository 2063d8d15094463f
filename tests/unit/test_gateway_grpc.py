"""The gRPC door with a backend in memory, spoken to over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from gateway.grpc import GrpcDoor
from headrace.protocol import messages, tensors
from headrace.protocol.errors import InvalidArgument
from tests.unit.gateway_backend import (
    FakeBackend,
    Version,
    eventually,
    gateway,
    model_list,
    signature,
)

Call = Callable[..., Awaitable[bytes]]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "multimodel.config"
    path.write_text(model_list("half", "image", "judge", labels={"half": {"stable": 1}}))
    return path


@pytest.fixture
def backend():
    return FakeBackend(
        models={
            "half": {1: Version(), 2: Version()},
            "image": {1: Version()},
            "judge": {1: Version()},
        },
        signatures={
            "half": {"serving_default": signature({"x": (1, [-1])})},
            "image": {"serving_default": signature({"image": (1, [-1, 2, 2, 1])})},
            "judge": {
                "serving_default": signature({"inputs": (7, [-1])}, outputs=("classes", "scores")),
                "rate": signature({"inputs": (7, [-1])}, outputs=("outputs",)),
            },
        },
    )


def predict(name: str = "half", *, array: Any = None, alias: str = "x", **spec: Any) -> Any:
    request = messages.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = spec.get("signature_name", "")
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    array = np.array([1.0, 2.0], np.float32) if array is None else array
    request.inputs[alias].CopyFrom(tensors.to_proto(array))
    return request


@contextlib.asynccontextmanager
async def running(backend: FakeBackend, config: Any, **changes: Any) -> AsyncIterator[Any]:
    app = gateway(backend, config, grpc_port=0, **changes)
    async with app.core:
        door = GrpcDoor(app.core)
        port = await door.start()
        await eventually(lambda: all(m.has_status for m in app.core.catalog.models.values()))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                yield app, channel
            finally:
                await door.stop(grace_s=0)


def run(
    backend: FakeBackend, config: Any, work: Callable[[Any, Any], Awaitable[Any]], **changes: Any
) -> Any:
    async def main() -> Any:
        async with running(backend, config, **changes) as (app, channel):
            return await work(app, channel)

    return asyncio.run(main())


def outcome(
    backend: FakeBackend,
    config: Any,
    request: bytes,
    *,
    method: Any = messages.PREDICT,
    **changes: Any,
) -> Any:
    async def work(app: Any, channel: Any) -> Any:
        try:
            return await channel.unary_unary(method.path)(request, timeout=5)
        except grpc.aio.AioRpcError as e:
            return (
                e.code().name,
                e.details(),
                json.loads(dict(e.trailing_metadata()).get("headrace-details", "[]")),
            )

    return run(backend, config, work, **changes)


def test_a_good_call_goes_on_as_the_same_bytes_and_a_pin(backend, config):
    request = predict().SerializeToString()
    assert outcome(backend, config, request) == b"the answer"
    ((model, version, sent),) = backend.predicts
    assert (model, version) == ("half", 2)
    assert sent.startswith(request)


@pytest.mark.parametrize("spec", [{"version": 1}, {"label": "stable"}], ids=["version", "label"])
def test_an_explicit_version_or_label_is_pinned_to_that_version(backend, config, spec):
    assert outcome(backend, config, predict(**spec).SerializeToString()) == b"the answer"
    assert backend.predicts[0][1] == 1


def _lying(**fields: Any) -> bytes:
    request = predict()
    tensor = request.inputs["x"]
    for size, dim in zip(fields.pop("dims", []), tensor.tensor_shape.dim, strict=False):
        dim.size = size
    for name, value in fields.items():
        setattr(tensor, name, value)
    return bytes(request.SerializeToString())


def _wanting(*outputs: str) -> bytes:
    request = predict()
    request.output_filter.extend(outputs)
    return bytes(request.SerializeToString())


def _nameless() -> bytes:
    request = predict()
    request.model_spec.name = ""
    return bytes(request.SerializeToString())


def _specless() -> bytes:
    request = predict()
    request.ClearField("model_spec")
    return bytes(request.SerializeToString())


IMAGE = np.zeros((1, 2, 2, 1), np.float32)
BAD: dict[str, tuple[bytes, str, str]] = {
    "garbage": (b"\xff\xff\xff", "INVALID_ARGUMENT", "PredictRequest"),
    "no model_spec": (_specless(), "INVALID_ARGUMENT", "model_spec"),
    "no model name": (_nameless(), "INVALID_ARGUMENT", "model_spec.name"),
    "unknown model": (predict("nobody").SerializeToString(), "NOT_FOUND", '"nobody"'),
    "unknown version": (predict(version=9).SerializeToString(), "NOT_FOUND", "no version 9"),
    "negative version": (predict(version=-1).SerializeToString(), "NOT_FOUND", "no version -1"),
    "unknown label": (
        predict(label="nightly").SerializeToString(),
        "INVALID_ARGUMENT",
        '"nightly"',
    ),
    "unknown signature": (
        predict(signature_name="no").SerializeToString(),
        "FAILED_PRECONDITION",
        '"no"',
    ),
    "unknown input": (predict(alias="z").SerializeToString(), "INVALID_ARGUMENT", "z"),
    "unknown output": (_wanting("y", "z"), "INVALID_ARGUMENT", "output_filter[1]: no such output"),
    "wrong dtype": (
        predict(array=np.array([1], np.int32)).SerializeToString(),
        "INVALID_ARGUMENT",
        "int32",
    ),
    "string for float": (
        predict(array=np.array([b"a"], object)).SerializeToString(),
        "INVALID_ARGUMENT",
        "text, expected float",
    ),
    "wrong rank": (
        predict(array=np.zeros((1, 1), np.float32)).SerializeToString(),
        "INVALID_ARGUMENT",
        "(1, 1)",
    ),
    "wrong fixed dimension": (
        predict("image", alias="image", array=IMAGE[:, :1]).SerializeToString(),
        "INVALID_ARGUMENT",
        "(1, 1, 2, 1)",
    ),
    "shape beyond the content": (_lying(dims=[1000]), "INVALID_ARGUMENT", "inputs.x"),
    "shape of a petabyte": (_lying(dims=[2**48]), "INVALID_ARGUMENT", "inputs.x"),
    "petabyte without content": (
        _lying(dims=[2**48], tensor_content=b""),
        "INVALID_ARGUMENT",
        "inputs.x",
    ),
    "negative dimension": (_lying(dims=[-5]), "INVALID_ARGUMENT", "inputs.x"),
    "content cut short": (_lying(tensor_content=b"\0" * 7), "INVALID_ARGUMENT", "inputs.x"),
    "unknown dtype": (_lying(dtype=77), "INVALID_ARGUMENT", "inputs.x"),
}


@pytest.mark.parametrize(("request_bytes", "code", "said"), BAD.values(), ids=BAD.keys())
def test_bad_calls_are_refused_and_never_reach_the_backend(
    backend, config, request_bytes, code, said
):
    got = outcome(backend, config, request_bytes)
    assert got[0] == code and said in got[1], got
    assert backend.predicts == []


def examples(cls: Any, name: str = "judge", *values: float, signature_name: str = "") -> Any:
    request = cls()
    request.model_spec.name, request.model_spec.signature_name = name, signature_name
    for value in values:
        request.input.example_list.examples.add().features.feature["v"].float_list.value.append(
            value
        )
    return request


def tasks(*named: tuple[str, str, str]) -> Any:
    """A MultiInference call; a task is a model, a signature and a method."""
    request = messages.MultiInferenceRequest(
        input=examples(messages.RegressionRequest, "judge", 1.0).input
    )
    for model, signature_name, method in named:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = model, signature_name
    return request


CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
RATE, SCORES = ("judge", "rate", REGRESS), ("judge", "", CLASSIFY)


@pytest.mark.parametrize(
    ("method", "signature_name"),
    [(messages.CLASSIFY, ""), (messages.REGRESS, "rate")],
    ids=["classify", "regress"],
)
def test_examples_go_on_as_the_same_bytes_and_a_pin(backend, config, method, signature_name):
    request = examples(
        method.request, "judge", 1.0, signature_name=signature_name
    ).SerializeToString()
    assert outcome(backend, config, request, method=method) == b"the answer"
    ((model, version, sent),) = backend.predicts
    assert (model, version) == ("judge", 1) and sent.startswith(request)


def test_several_tasks_go_on_with_the_first_pinned(backend, config):
    request = tasks(RATE, SCORES)
    assert (
        outcome(backend, config, request.SerializeToString(), method=messages.MULTI_INFERENCE)
        == b"the answer"
    )
    ((_, version, sent),) = backend.predicts
    assert version == 1
    request.tasks[0].model_spec.version.value = 1
    assert messages.MultiInferenceRequest.FromString(sent) == request


BAD_EXAMPLES: dict[str, tuple[Any, Any, str, str, str | None]] = {
    "no examples": (
        messages.CLASSIFY,
        examples(messages.ClassificationRequest),
        "INVALID_ARGUMENT",
        "none",
        "/input",
    ),
    "unknown model": (
        messages.REGRESS,
        examples(messages.RegressionRequest, "nobody", 1.0),
        "NOT_FOUND",
        "nobody",
        None,
    ),
    "unknown signature": (
        messages.REGRESS,
        examples(messages.RegressionRequest, "judge", 1.0, signature_name="raet"),
        "INVALID_ARGUMENT",
        "did you mean rate?",
        "/signature_name",
    ),
    "a classifier's": (
        messages.REGRESS,
        examples(messages.RegressionRequest, "judge", 1.0),
        "INVALID_ARGUMENT",
        "is not for regress; for that there is rate",
        "/signature_name",
    ),
    "a predict signature": (
        messages.CLASSIFY,
        examples(messages.ClassificationRequest, "half", 1.0),
        "INVALID_ARGUMENT",
        "is not for classify",
        "/signature_name",
    ),
    "no tasks": (messages.MULTI_INFERENCE, tasks(), "INVALID_ARGUMENT", "tasks: none", None),
    "two models": (
        messages.MULTI_INFERENCE,
        tasks(RATE, ("half", "", CLASSIFY)),
        "INVALID_ARGUMENT",
        "another model",
        "/tasks/1/model_spec/name",
    ),
    "an odd method": (
        messages.MULTI_INFERENCE,
        tasks(("judge", "rate", "guess")),
        "UNIMPLEMENTED",
        '"guess"',
        "/tasks/0/method_name",
    ),
}


@pytest.mark.parametrize(
    ("method", "request_", "code", "said", "path"), BAD_EXAMPLES.values(), ids=BAD_EXAMPLES.keys()
)
def test_bad_examples_are_refused_and_never_reach_the_backend(
    backend, config, method, request_, code, said, path
):
    got = outcome(backend, config, request_.SerializeToString(), method=method)
    assert got[0] == code and said in got[1], got
    assert [d["path"] for d in got[2] if "path" in d] == ([path] if path else [])
    assert backend.predicts == []


def test_a_reload_is_refused_and_says_whose_the_config_is(backend, config):
    code, said, _ = outcome(backend, config, b"", method=messages.HANDLE_RELOAD_CONFIG_REQUEST)
    assert code == "PERMISSION_DENIED" and "multimodel.config" in said


def test_details_and_the_request_id_travel_as_trailing_metadata(backend, config):
    async def work(app: Any, channel: Any) -> Any:
        request = predict("image", alias="image", array=IMAGE[..., 0]).SerializeToString()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(messages.PREDICT.path)(
                request, timeout=5, metadata=(("x-request-id", "abc"),)
            )
        return dict(raised.value.trailing_metadata())

    trailing = run(backend, config, work)
    assert (trailing["x-request-id"], trailing["headrace-model-version"]) == ("abc", "1")
    assert json.loads(trailing["headrace-details"]) == [
        {
            "path": "/inputs/image",
            "kind": "input_shape",
            "expected": "(?, 2, 2, 1)",
            "got": "shape (1, 2, 2)",
            "hint": "one dimension is missing: the last, of 1",
            "place": "inputs.image",
        }
    ]


def test_status_and_metadata_go_through_for_configured_models_only(backend, config):
    request = messages.GetModelStatusRequest()
    request.model_spec.name = "half"
    reply = messages.GetModelStatusResponse.FromString(
        outcome(backend, config, request.SerializeToString(), method=messages.GET_MODEL_STATUS)
    )
    assert {v.version for v in reply.model_version_status} == {1, 2}
    request.model_spec.name = "nobody"
    code, said, _ = outcome(
        backend, config, request.SerializeToString(), method=messages.GET_MODEL_STATUS
    )
    assert code == "NOT_FOUND" and "half, image" in said


def test_the_callers_deadline_is_passed_on(backend, config):
    async def work(app: Any, channel: Any) -> Any:
        backend.delay_s = 5
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(messages.PREDICT.path)(
                predict().SerializeToString(), timeout=0.2
            )
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    run(backend, config, work, probe_s=60, refresh_s=60)


def test_the_gateways_own_deadline_caps_the_callers(backend, config):
    async def work(app: Any, channel: Any) -> Any:
        backend.delay_s = 5
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(messages.PREDICT.path)(
                predict().SerializeToString(), timeout=30
            )
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "did not answer within" in raised.value.details()

    run(backend, config, work, timeout_s=0.1, probe_s=60, refresh_s=60)


def test_a_caller_that_hangs_up_cancels_the_call_upstream(backend, config):
    async def work(app: Any, channel: Any) -> None:
        backend.delay_s = 5
        call = channel.unary_unary(messages.PREDICT.path)(predict().SerializeToString())
        await asyncio.sleep(0.1)
        call.cancel()
        await eventually(lambda: messages.PREDICT.path in backend.cancelled, within_s=2)

    run(backend, config, work, probe_s=60, refresh_s=60)


def test_backend_down_is_unavailable_with_a_reason(backend, config):
    async def work(app: Any, channel: Any) -> Any:
        backend.down = True
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(messages.PREDICT.path)(
                predict().SerializeToString(), timeout=5
            )
        return raised.value.code().name, raised.value.details()

    code, said = run(backend, config, work)
    assert code == "UNAVAILABLE" and "cannot be reached" in said


def test_a_pinned_version_that_is_gone_is_looked_up_and_the_call_sent_once_more(backend, config):
    async def work(app: Any, channel: Any) -> Any:
        backend.models["half"] = {3: Version()}
        return await channel.unary_unary(messages.PREDICT.path)(
            predict().SerializeToString(), timeout=5
        )

    assert run(backend, config, work, probe_s=60, refresh_s=60) == b"the answer"
    assert backend.predicts[0][1] == 3


def test_graph_names_do_not_leave_the_gateway(backend, config):
    async def refuse(*_: Any, **__: Any) -> bytes:
        raise InvalidArgument("x must be positive\n\t [[{{node assert/Assert}}]]")

    async def work(app: Any, channel: Any) -> Any:
        backend.call = refuse  # type: ignore[method-assign]
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(messages.PREDICT.path)(
                predict().SerializeToString(), timeout=5
            )
        return raised.value.details()

    assert run(backend, config, work, probe_s=60, refresh_s=60) == "x must be positive"


def test_metrics_count_every_door_and_nothing_stays_in_flight(backend, config):
    async def work(app: Any, channel: Any) -> str:
        await channel.unary_unary(messages.PREDICT.path)(predict().SerializeToString(), timeout=5)
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(messages.PREDICT.path)(
                predict("junk-7f3a").SerializeToString(), timeout=5
            )
        # A call is counted once its answer is on its way, so the caller may be first.
        async with asyncio.timeout(10):
            while "NOT_FOUND" not in (text := app.core.metrics.render().decode()):
                await asyncio.sleep(0.01)
        return text

    text = run(backend, config, work)
    assert (
        'requests_total{code="OK",door="grpc",model="half",'
        'signature="serving_default",version="2"} 1.0' in text
    )
    assert 'requests_total{code="NOT_FOUND",door="grpc",model="unknown",signature="unknown"' in text
    assert "headrace_gateway_in_flight 0.0" in text and "junk" not in text
