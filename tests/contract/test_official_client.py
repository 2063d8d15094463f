"""Clients that are not ours run every RPC: official message classes, gRPC's own health and
reflection clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tests.contract import servers
from tests.live import LiveServer, until
from tests.unit import official

HALF = {"name": "half_plus_two"}
EXAMPLE = {"features": {"feature": {"x": {"float_list": {"value": [2.0]}}}}}
INPUT = {"example_list": {"examples": [EXAMPLE]}}


class Stub:
    """One of TensorFlow Serving's services, by the descriptor that the official package ships."""

    def __init__(self, channel: grpc.Channel, service: str) -> None:
        for method in official.pool().FindServiceByName(service).methods:
            call = channel.unary_unary(
                f"/{service}/{method.name}",
                request_serializer=GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            setattr(self, method.name, call)


@pytest.fixture(scope="module")
def live(contract_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("official")
    entries, flags = servers.configuration("health", contract_models)
    (folder / "models.config").write_text(servers.config_text(entries))
    with LiveServer.launcher(folder) as launch:
        server = launch(model_config_file=folder / "models.config", **flags)
        server.wait_until_available("half_plus_two")
        yield server


@pytest.fixture
def predictions(live: LiveServer) -> Any:
    return Stub(live.channel, "tensorflow.serving.PredictionService")


@pytest.fixture
def models(live: LiveServer) -> Any:
    return Stub(live.channel, "tensorflow.serving.ModelService")


def request(name: str, **fields: Any) -> Any:
    return official.message(f"tensorflow.serving.{name}")(**fields)


def test_predict(predictions: Any) -> None:
    sent = request("PredictRequest", model_spec=HALF)
    sent.inputs["x"].dtype = 1
    sent.inputs["x"].tensor_shape.dim.add(size=3)
    sent.inputs["x"].float_val.extend([1.0, 2.0, 5.0])

    answer = predictions.Predict(sent, timeout=10)

    assert list(answer.outputs["y"].float_val) == [2.5, 3.0, 4.5]
    assert (answer.model_spec.version.value, answer.model_spec.signature_name) == (
        123,
        "serving_default",
    )


def test_classify(predictions: Any) -> None:
    spec = {**HALF, "signature_name": "classify_x_to_y"}

    answer = predictions.Classify(
        request("ClassificationRequest", model_spec=spec, input=INPUT), timeout=10
    )

    assert [c.score for c in answer.result.classifications[0].classes] == [3.0]


def test_regress(predictions: Any) -> None:
    spec = {**HALF, "signature_name": "regress_x_to_y2"}

    answer = predictions.Regress(
        request("RegressionRequest", model_spec=spec, input=INPUT), timeout=10
    )

    assert [r.value for r in answer.result.regressions] == [4.0]


def test_multi_inference(predictions: Any) -> None:
    tasks = [
        {
            "model_spec": {**HALF, "signature_name": f"{kind}_x_to_y"},
            "method_name": f"tensorflow/serving/{kind}",
        }
        for kind in ("regress", "classify")
    ]

    answer = predictions.MultiInference(
        request("MultiInferenceRequest", tasks=tasks, input=INPUT), timeout=10
    )

    assert answer.results[0].regression_result.regressions[0].value == 3.0
    assert answer.results[1].classification_result.classifications[0].classes[0].score == 3.0


def test_metadata(predictions: Any) -> None:
    sent = request("GetModelMetadataRequest", model_spec=HALF, metadata_field=["signature_def"])

    answer = predictions.GetModelMetadata(sent, timeout=10)

    found = request("SignatureDefMap")
    assert answer.metadata["signature_def"].Unpack(found)
    assert found.signature_def["serving_default"].inputs["x"].name == "x:0"


def test_status(models: Any) -> None:
    answer = models.GetModelStatus(request("GetModelStatusRequest", model_spec=HALF), timeout=10)

    assert [(row.version, row.state) for row in answer.model_version_status] == [(123, 30)]


def test_reload_and_back(models: Any, live: LiveServer, contract_models: Path) -> None:
    def config(*names: str) -> Any:
        sent = request("ReloadConfigRequest", metric_names=["/tensorflow/serving/request_count"])
        for name in names:
            path = str(contract_models / name)
            sent.config.model_config_list.config.add(
                name=name, base_path=path, model_platform="tensorflow"
            )
        return sent

    answer = models.HandleReloadConfigRequest(
        config("half_plus_two", "half_plus_three"), timeout=30
    )

    assert answer.status.error_code == 0
    assert [metric.name for metric in answer.metric] == ["/tensorflow/serving/request_count"]
    assert live.predict("half_plus_three", {"instances": [1.0]}).json == {"predictions": [3.5]}
    models.HandleReloadConfigRequest(config("half_plus_two"), timeout=30)
    until(lambda: live.states("half_plus_three") == {123: "END"}, 10)


def test_health(live: LiveServer) -> None:
    stub = health_pb2_grpc.HealthStub(live.channel)

    assert (
        stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status
        == health_pb2.HealthCheckResponse.SERVING
    )
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def test_more_watchers_than_threads_leave_the_server_free(
    live: LiveServer, predictions: Any
) -> None:
    stub = health_pb2_grpc.HealthStub(live.channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(40)]

    assert {next(watch).status for watch in watches} == {health_pb2.HealthCheckResponse.SERVING}
    test_predict(predictions)
    for watch in watches:
        watch.cancel()


def test_watchers_hear_that_the_server_stops(
    launch: LiveServer.Launcher, contract_models: Path
) -> None:
    live = launch(
        model_name="half_plus_two",
        model_base_path=contract_models / "half_plus_two",
        enable_grpc_healthcheck_service=True,
    )
    watch = health_pb2_grpc.HealthStub(live.channel).Watch(
        health_pb2.HealthCheckRequest(), timeout=60
    )
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING

    assert live.terminate() == 0

    assert [answer.status for answer in watch] == [health_pb2.HealthCheckResponse.NOT_SERVING]


SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "tensorflow.ProfilerService",
    "tensorflow.serving.ModelService",
    "tensorflow.serving.PredictionService",
)


def test_a_call_made_from_nothing_but_reflection(live: LiveServer) -> None:
    """What grpcurl does: ask for the services, then for the messages, then call."""
    database = ProtoReflectionDescriptorDatabase(live.channel)
    assert tuple(database.get_services()) == SERVICES
    method = DescriptorPool(database).FindServiceByName(SERVICES[-1]).FindMethodByName("Predict")
    sent = GetMessageClass(method.input_type)(model_spec={"name": "half_plus_two"})
    sent.inputs["x"].dtype = 1
    sent.inputs["x"].float_val.append(3.0)
    call = live.channel.unary_unary(
        f"/{SERVICES[-1]}/Predict",
        request_serializer=type(sent).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )

    assert list(call(sent, timeout=10).outputs["y"].float_val) == [3.5]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_every_question_of_a_stream(live: LiveServer, version: str) -> None:
    asked = [
        reflection_pb2.ServerReflectionRequest(host="h", list_services=""),
        reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="tensorflow.serving.ModelService.GetModelStatus"
        ),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Thing"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="no/such/file.proto"),
        reflection_pb2.ServerReflectionRequest(
            all_extension_numbers_of_type="tensorflow.TensorProto"
        ),
        reflection_pb2.ServerReflectionRequest(),
    ]
    stream = live.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )

    services, file, symbol, name, extensions, nothing = stream(iter(asked), timeout=10)

    assert (services.valid_host, services.original_request) == ("h", asked[0])
    assert tuple(found.name for found in services.list_services_response.service) == SERVICES
    assert len(file.file_descriptor_response.file_descriptor_proto) >= 3  # with all it needs
    assert symbol.error_response.error_code == name.error_response.error_code == 5
    assert extensions.all_extension_numbers_response.base_type_name == "tensorflow.TensorProto"
    assert nothing.error_response.error_code == 12


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tensorflow.serving.PredictionService/Predict", "unary_unary"),
        ("/tensorflow.serving.ModelService/HandleReloadConfigRequest", "unary_unary"),
        ("/grpc.health.v1.Health/Check", "unary_unary"),
        ("/grpc.health.v1.Health/Watch", "unary_stream"),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "stream_stream"),
    ],
)
def test_bytes_that_are_no_message_are_refused_alike_everywhere(
    live: LiveServer, path: str, kind: str
) -> None:
    broken = b"\xff" * 20
    call = getattr(live.channel, kind)(path)

    with pytest.raises(grpc.RpcError) as refusal:
        answer = call(iter([broken]) if kind == "stream_stream" else broken, timeout=10)
        next(answer)

    assert (refusal.value.code().name, refusal.value.details()) == (
        "INTERNAL",
        "Exception deserializing request!",
    )
