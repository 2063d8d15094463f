"""gRPC: the calls as TensorFlow Serving's messages, and the channels that carry them, blocking and
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
from headrace.client.errors import Unreachable, WrongProtocol
from headrace.protocol import messages, signatures, tensors
from headrace.protocol.errors import DETAILS_METADATA, HeadraceError, Unimplemented, from_grpc_code
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import Signature
from headrace.protocol.version_state import VersionState

_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
# gRPC's own texts, as against those a server wrote.
_NO_CONNECTION = re.compile(
    r"failed to connect|connection (refused|reset)|socket closed|errors resolving|dns resol|goaway",
    re.I,
)
_HTTP1_SERVER = "http1.x server"
_LOCAL_DEADLINE = "Deadline Exceeded"


@dataclass(frozen=True, slots=True)
class GrpcCall:
    method: messages.Method
    request: Any
    read: Callable[[Any], Any]


class GrpcWire:
    def predict(
        self, target: ModelSpec, arrays: Mapping[str, np.ndarray], signature: Signature
    ) -> GrpcCall:
        request = messages.PredictRequest()
        _fill(request.model_spec, target)
        request.model_spec.signature_name = signature.name
        for name, array in arrays.items():
            request.inputs[name].CopyFrom(tensors.to_proto(array, signature.inputs[name].dtype))
        return GrpcCall(messages.PREDICT, request, lambda response: response)

    def prediction(self, answer: Any, signature: Signature) -> Prediction:
        spec = answer.model_spec
        version = int(spec.version.value) if spec.HasField("version") else None
        return Prediction(
            {name: tensors.from_proto(proto) for name, proto in answer.outputs.items()}, version
        )

    def metadata(self, target: ModelSpec) -> GrpcCall:
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        _fill(request.model_spec, target)
        return GrpcCall(messages.GET_MODEL_METADATA, request, _metadata)

    def status(self, target: ModelSpec) -> GrpcCall:
        request = messages.GetModelStatusRequest()
        _fill(request.model_spec, target)
        return GrpcCall(messages.GET_MODEL_STATUS, request, _statuses)

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
        if address.is_encrypted:
            self._channel = grpc.secure_channel(*_secure(address))
        else:
            self._channel = grpc.insecure_channel(address.host_and_port, options=_options(address))
        self._stubs = _stubs(self._channel)

    def send(self, call: GrpcCall, deadline: Deadline) -> Any:
        try:
            response = self._stubs[call.method.path](call.request, timeout=deadline.left_s())
        except grpc.RpcError as cause:
            raise _translated(cause, self._address, deadline) from cause
        return call.read(response)

    def close(self) -> None:
        self._channel.close()


class AioTransport:
    """The same over grpc.aio; belongs to the event loop it is made in."""

    def __init__(self, address: Address) -> None:
        self._address = address
        if address.is_encrypted:
            self._channel = grpc.aio.secure_channel(*_secure(address))
        else:
            self._channel = grpc.aio.insecure_channel(
                address.host_and_port, options=_options(address)
            )
        self._stubs = _stubs(self._channel)

    async def send(self, call: GrpcCall, deadline: Deadline) -> Any:
        try:
            response = await self._stubs[call.method.path](call.request, timeout=deadline.left_s())
        except grpc.RpcError as cause:
            raise _translated(cause, self._address, deadline) from cause
        return call.read(response)

    async def close(self) -> None:
        await self._channel.close()


def _options(address: Address) -> list[tuple[str, Any]]:
    return [
        (
            "grpc.max_receive_message_length",
            -1,
            # Python's default of 4 MiB is less than a batch of pictures.
        ),
        ("grpc.max_send_message_length", -1),
        # A server that comes back is found within a second, not within gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.enable_http_proxy", 0 if address.is_loopback else 1),
    ]


def _secure(address: Address) -> tuple[Any, ...]:
    return address.host_and_port, grpc.ssl_channel_credentials(), _options(address)


def _stubs(channel: Any) -> dict[str, Any]:
    return {
        method.path: channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        for method in (messages.PREDICT, messages.GET_MODEL_METADATA, messages.GET_MODEL_STATUS)
    }


def _translated(cause: Any, address: Address, deadline: Deadline) -> HeadraceError:
    code, said = cause.code(), cause.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and _HTTP1_SERVER in said:
        return WrongProtocol(f"{address} is an HTTP port: use {address.other}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and said == _LOCAL_DEADLINE:
        return deadline.exceeded()
    if code is grpc.StatusCode.UNAVAILABLE and (not said or _NO_CONNECTION.search(said)):
        return Unreachable(
            f"cannot reach {address}: {said.rpartition(': ')[2].rstrip(']') or 'no reason given'}"
        )
    error = from_grpc_code(code.value[0], said)
    error.details = _details(cause)
    return error


def _details(cause: Any) -> list[dict[str, Any]]:
    """What a gateway says beside its message; nothing, where the server is another."""
    told = dict(cause.trailing_metadata() or ()).get(DETAILS_METADATA, "[]")
    try:
        details = json.loads(told)
    except ValueError:
        return []
    return [d for d in details if isinstance(d, dict)] if isinstance(details, list) else []


def _fill(spec: Any, target: ModelSpec) -> None:
    spec.name = target.name
    if target.version is not None:
        spec.version.value = target.version
    if target.label is not None:
        spec.version_label = target.label


def _metadata(response: Any) -> Metadata:
    definitions = messages.SignatureDefMap()
    response.metadata["signature_def"].Unpack(definitions)
    found = {n: signatures.from_signature_def(n, d) for n, d in definitions.signature_def.items()}
    return Metadata(int(response.model_spec.version.value), found)


def _statuses(response: Any) -> list[VersionStatus]:
    return [
        VersionStatus(
            int(row.version),
            VersionState(row.state).name,
            _CODE_NAMES.get(row.status.error_code, str(row.status.error_code)),
            row.status.error_message,
        )
        for row in response.model_version_status
    ]
