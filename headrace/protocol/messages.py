"""Message classes of TensorFlow's and TensorFlow Serving's protocol, and the RPCs that carry them.

They live in a private descriptor pool, so that they share a process with TensorFlow's own classes
in either import order. Attribute access is typed Any: the fields are protobuf's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from google.protobuf.message import DecodeError

from headrace.protocol.errors import ConfigError, InvalidArgument

# Compiled from the .proto files beside it by `make protos`.
DESCRIPTORS = Path(__file__).parent / "proto" / "descriptors.binpb"


def _private_pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    # Each file stands behind those it imports.
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _private_pool()


def message(full_name: str) -> Any:
    """The class of any message of the protocol, nested ones too:
    ``tensorflow.AttrValue.ListValue``."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(full_name))


def enum(full_name: str) -> Any:
    """The descriptor of an enum of the protocol, for its names and numbers."""
    return POOL.FindEnumTypeByName(full_name)


def _tensorflow(name: str) -> Any:
    return message(f"tensorflow.{name}")


def _serving(name: str) -> Any:
    return message(f"tensorflow.serving.{name}")


Any_ = message("google.protobuf.Any")
Int64Value = message("google.protobuf.Int64Value")

TensorShapeProto = _tensorflow("TensorShapeProto")
TensorProto = _tensorflow("TensorProto")
NamedTensorProto = _tensorflow("NamedTensorProto")
AttrValue = _tensorflow("AttrValue")
NodeDef = _tensorflow("NodeDef")
GraphDef = _tensorflow("GraphDef")
FunctionDef = _tensorflow("FunctionDef")
FunctionDefLibrary = _tensorflow("FunctionDefLibrary")
OpDef = _tensorflow("OpDef")
VersionDef = _tensorflow("VersionDef")
SavedModel = _tensorflow("SavedModel")
MetaGraphDef = _tensorflow("MetaGraphDef")
SignatureDef = _tensorflow("SignatureDef")
TensorInfo = _tensorflow("TensorInfo")
AssetFileDef = _tensorflow("AssetFileDef")
CollectionDef = _tensorflow("CollectionDef")
BundleHeaderProto = _tensorflow("BundleHeaderProto")
BundleEntryProto = _tensorflow("BundleEntryProto")
Example = _tensorflow("Example")
SequenceExample = _tensorflow("SequenceExample")
Features = _tensorflow("Features")
Feature = _tensorflow("Feature")
ConfigProto = _tensorflow("ConfigProto")
GPUOptions = _tensorflow("GPUOptions")
RunOptions = _tensorflow("RunOptions")

ModelSpec = _serving("ModelSpec")
PredictRequest = _serving("PredictRequest")
PredictResponse = _serving("PredictResponse")
GetModelMetadataRequest = _serving("GetModelMetadataRequest")
GetModelMetadataResponse = _serving("GetModelMetadataResponse")
SignatureDefMap = _serving("SignatureDefMap")
GetModelStatusRequest = _serving("GetModelStatusRequest")
GetModelStatusResponse = _serving("GetModelStatusResponse")
ModelVersionStatus = _serving("ModelVersionStatus")
StatusProto = _serving("StatusProto")
ReloadConfigRequest = _serving("ReloadConfigRequest")
ReloadConfigResponse = _serving("ReloadConfigResponse")
Input = _serving("Input")
ExampleList = _serving("ExampleList")
ExampleListWithContext = _serving("ExampleListWithContext")
ClassificationRequest = _serving("ClassificationRequest")
ClassificationResponse = _serving("ClassificationResponse")
RegressionRequest = _serving("RegressionRequest")
RegressionResponse = _serving("RegressionResponse")
InferenceTask = _serving("InferenceTask")
MultiInferenceRequest = _serving("MultiInferenceRequest")
MultiInferenceResponse = _serving("MultiInferenceResponse")
PredictionLog = _serving("PredictionLog")
ModelServerConfig = _serving("ModelServerConfig")
ModelConfigList = _serving("ModelConfigList")
ModelConfig = _serving("ModelConfig")
PlatformConfigMap = _serving("PlatformConfigMap")
BatchingParameters = _serving("BatchingParameters")
MonitoringConfig = _serving("MonitoringConfig")
SSLConfig = _serving("SSLConfig")

HealthCheckRequest = message("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = message("grpc.health.v1.HealthCheckResponse")
ProfileRequest = _tensorflow("ProfileRequest")
ProfileResponse = _tensorflow("ProfileResponse")
TerminateRequest = _tensorflow("TerminateRequest")
TerminateResponse = _tensorflow("TerminateResponse")


@dataclass(frozen=True, slots=True)
class Method:
    """One unary RPC: gRPC needs no stubs, only the path and how to read and write the two
    messages."""

    service: str
    name: str
    request: Any
    response: Any

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
PROFILER_SERVICE = "tensorflow.ProfilerService"
HEALTH_SERVICE = "grpc.health.v1.Health"
REFLECTION_SERVICES = (
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)

PREDICT = Method(PREDICTION_SERVICE, "Predict", PredictRequest, PredictResponse)
CLASSIFY = Method(PREDICTION_SERVICE, "Classify", ClassificationRequest, ClassificationResponse)
REGRESS = Method(PREDICTION_SERVICE, "Regress", RegressionRequest, RegressionResponse)
MULTI_INFERENCE = Method(
    PREDICTION_SERVICE, "MultiInference", MultiInferenceRequest, MultiInferenceResponse
)
GET_MODEL_METADATA = Method(
    PREDICTION_SERVICE, "GetModelMetadata", GetModelMetadataRequest, GetModelMetadataResponse
)
GET_MODEL_STATUS = Method(
    MODEL_SERVICE, "GetModelStatus", GetModelStatusRequest, GetModelStatusResponse
)
HANDLE_RELOAD_CONFIG_REQUEST = Method(
    MODEL_SERVICE, "HandleReloadConfigRequest", ReloadConfigRequest, ReloadConfigResponse
)
METHODS = (
    PREDICT,
    CLASSIFY,
    REGRESS,
    MULTI_INFERENCE,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    HANDLE_RELOAD_CONFIG_REQUEST,
)

PROFILE = Method(PROFILER_SERVICE, "Profile", ProfileRequest, ProfileResponse)
TERMINATE = Method(PROFILER_SERVICE, "Terminate", TerminateRequest, TerminateResponse)


def parse(cls: Any, data: bytes) -> Any:
    """A message from its bytes; InvalidArgument when they are not one."""
    try:
        return cls.FromString(data)
    except DecodeError as error:
        raise InvalidArgument(f"not a {cls.DESCRIPTOR.full_name} message: {error}") from error


def pack(inner: Any) -> Any:
    """The message as a google.protobuf.Any, its type named as TensorFlow Serving names it."""
    packed = Any_()
    packed.Pack(inner, deterministic=True)
    return packed


def unpack(cls: Any, packed: Any) -> Any:
    """What an Any holds, ours or the official one; InvalidArgument when it is another type or
    broken."""
    wanted, found = cls.DESCRIPTOR.full_name, packed.type_url.rpartition("/")[2]
    if found != wanted:
        raise InvalidArgument(f"an Any holds {found or 'nothing'}, expected {wanted}")
    return parse(cls, packed.value)


def signature_def_map(response: Any) -> Any:
    """The SignatureDefMap inside a GetModelMetadataResponse; an empty one when the answer holds
    none."""
    packed = response.metadata
    return (
        unpack(SignatureDefMap, packed["signature_def"])
        if "signature_def" in packed
        else SignatureDefMap()
    )


_PLACE = re.compile(r"\d+:\d+ : ")
_DOTTED = re.compile(r"\w+(?:\.\w+)+")


def parse_text(cls: Any, text: str, source: str = "") -> Any:
    """A message from protobuf's text format; ConfigError with line and column when it is not
    one."""
    try:
        return text_format.Parse(text, cls(), descriptor_pool=POOL)
    except text_format.ParseError as error:
        line, column = error.GetLine() or 0, error.GetColumn() or 0
        reason = _PLACE.sub("", str(error), count=1)
        # Protobuf quotes the whole line first; its number is enough.
        if line:
            reason = reason.removeprefix(f"'{text.split(chr(10))[line - 1]}': ")
        elif (named := _DOTTED.search(reason)) and (at := text.find(named.group())) >= 0:
            # An Any of a type we do not know: protobuf names the type and no place.
            line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        raise ConfigError(
            reason,
            line=line,
            column=column,
            source=source,
            serving_text=f"Invalid protobuf file: '{source}'",
            unparsed=cls.DESCRIPTOR.full_name,
        ) from error


def render_text(inner: Any) -> str:
    """The text format of a message, in a fixed order."""
    return str(text_format.MessageToString(inner, descriptor_pool=POOL))
