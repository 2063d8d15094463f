"""gRPC: calls as TensorFlow Serving's messages, and the channels that carry them, blocking and
asyncio."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import numpy as np

from headrace.client.address import Address
from headrace.client.core import Metadata, Prediction, VersionStatus
from headrace.client.deadline import Deadline
from headrace.client.errors import Unreachable, WrongProtocol, checked_details
from headrace.protocol import messages, signatures, tensors
from headrace.protocol.errors import DETAILS_METADATA, HeadraceError, Unimplemented, from_grpc_code
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import Signature
from headrace.protocol.version_state import VersionState

_METHODS = (messages.PREDICT, messages.GET_MODEL_METADATA, messages.GET_MODEL_STATUS)
_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
# Texts of gRPC itself, not of a server.
_NO_CONNECTION = re.compile(
    r"failed to connect|connection (refused|reset)|socket closed|errors resolving|dns resol|goaway",
    re.I,
)
_HTTP1_SERVER = "http1.x server"
_LOCAL_DEADLINE = "Deadline Exceeded"


@dataclass(frozen=True, slots=True)
class GrpcCall:
    """``read`` turns the response message into what the call returns."""

    method: messages.Method
    request: Any
    read: Callable[[Any], Any]


class GrpcCodec:
    def predict(
        self, model: ModelSpec, arrays: Mapping[str, np.ndarray], signature: Signature
    ) -> GrpcCall:
        request = messages.PredictRequest()
        _fill(request.model_spec, model)
        request.model_spec.signature_name = signature.name
        for name, array in arrays.items():
            request.inputs[name].CopyFrom(tensors.to_proto(array, signature.inputs[name].dtype))
        return GrpcCall(messages.PREDICT, request, lambda response: response)

    def prediction(self, response: Any, signature: Signature) -> Prediction:
        outputs = {name: tensors.from_proto(proto) for name, proto in response.outputs.items()}
        if response.model_spec.HasField("version"):
            return Prediction(outputs, int(response.model_spec.version.value))
        return Prediction(outputs)

    def metadata(self, model: ModelSpec) -> GrpcCall:
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        _fill(request.model_spec, model)
        return GrpcCall(messages.GET_MODEL_METADATA, request, _read_metadata)

    def status(self, model: ModelSpec) -> GrpcCall:
        request = messages.GetModelStatusRequest()
        _fill(request.model_spec, model)
        return GrpcCall(messages.GET_MODEL_STATUS, request, _read_status)

    def models(self) -> GrpcCall:
        raise Unimplemented("gRPC has no call that lists models; ask the gateway's http:// address")

    def ready(self) -> GrpcCall:
        raise Unimplemented(
            "gRPC has no readiness of a whole server; name a model: ready(model), or use http://"
        )


class GrpcTransport:
    """One channel; gRPC's channels are safe for any number of threads."""

    def __init__(self, address: Address) -> None:
        self._address = address
        target = address.host_and_port
        options = _options(address)
        if address.is_encrypted:
            credentials = grpc.ssl_channel_credentials()
            self._channel = grpc.secure_channel(target, credentials, options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._stubs = _stubs(self._channel)

    def send(self, call: GrpcCall, deadline: Deadline) -> Any:
        stub = self._stubs[call.method.path]
        try:
            response = stub(call.request, timeout=deadline.remaining_s())
        except grpc.RpcError as error:
            raise _translated(error, self._address, deadline) from error
        return call.read(response)

    def close(self) -> None:
        self._channel.close()


class AioTransport:
    """GrpcTransport over grpc.aio; belongs to the event loop it is made in."""

    def __init__(self, address: Address) -> None:
        self._address = address
        target = address.host_and_port
        options = _options(address)
        if address.is_encrypted:
            credentials = grpc.ssl_channel_credentials()
            self._channel = grpc.aio.secure_channel(target, credentials, options)
        else:
            self._channel = grpc.aio.insecure_channel(target, options)
        self._stubs = _stubs(self._channel)

    async def send(self, call: GrpcCall, deadline: Deadline) -> Any:
        stub = self._stubs[call.method.path]
        try:
            response = await stub(call.request, timeout=deadline.remaining_s())
        except grpc.RpcError as error:
            raise _translated(error, self._address, deadline) from error
        return call.read(response)

    async def close(self) -> None:
        await self._channel.close()


def _options(address: Address) -> list[tuple[str, Any]]:
    return [
        # The default limit of 4 MiB is less than a batch of pictures.
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # Finds a restarted server within a second, not within gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.enable_http_proxy", 0 if address.is_loopback else 1),
    ]


def _stubs(channel: Any) -> dict[str, Any]:
    stubs = {}
    for method in _METHODS:
        stubs[method.path] = channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
    return stubs


def _translated(error: Any, address: Address, deadline: Deadline) -> HeadraceError:
    code = error.code()
    message = error.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and message == _LOCAL_DEADLINE:
        return deadline.exceeded()
    if code is grpc.StatusCode.UNAVAILABLE:
        if _HTTP1_SERVER in message:
            return WrongProtocol(f"{address} is an HTTP port: use {address.with_other_protocol}")
        if not message or _NO_CONNECTION.search(message):
            reason = message.rpartition(": ")[2].rstrip("]") or "no reason given"
            return Unreachable(f"cannot reach {address}: {reason}")
    translated = from_grpc_code(code.value[0], message)
    translated.details = _details(error)
    return translated


def _details(error: Any) -> list[dict[str, Any]]:
    trailers = dict(error.trailing_metadata() or ())
    try:
        return checked_details(json.loads(trailers.get(DETAILS_METADATA, "[]")))
    except ValueError:
        return []


def _fill(message: Any, model: ModelSpec) -> None:
    message.name = model.name
    if model.version is not None:
        message.version.value = model.version
    if model.label is not None:
        message.version_label = model.label


def _read_metadata(response: Any) -> Metadata:
    definitions = messages.SignatureDefMap()
    response.metadata["signature_def"].Unpack(definitions)
    version = int(response.model_spec.version.value)
    return Metadata(version, signatures.from_signature_defs(definitions.signature_def))


def _read_status(response: Any) -> list[VersionStatus]:
    statuses = []
    for status in response.model_version_status:
        code = status.status.error_code
        statuses.append(
            VersionStatus(
                version=int(status.version),
                state=VersionState(status.state).name,
                error_code=_CODE_NAMES.get(code, str(code)),
                error_message=status.status.error_message,
            )
        )
    return statuses
