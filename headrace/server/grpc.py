"""The gRPC door: PredictionService and ModelService as generic handlers over our own messages, in a few threads."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np

from headrace.server.core import Core
from headrace.server.repository import ModelSpec
from headrace.wire import messages, tensors
from headrace.wire.errors import HeadraceError, InvalidArgument, Unavailable
from headrace.wire.messages import Method
from headrace.wire.signatures import DEFAULT_SIGNATURE, Signature

log = logging.getLogger(__name__)

_DETAILS_BYTES = 1024
_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_UNBOUNDED = (1 << 31) - 1
_FOREVER_S = 10_000_000.0  # gRPC says "no deadline" with a very long one

Answer = Callable[[Any, float | None], Any]


class GrpcDoor:
    """What each RPC answers; raises errors of the tree."""

    def __init__(self, core: Core, *, as_content: bool = False) -> None:
        self._core = core
        self._as_content = as_content

    def answers(self) -> Mapping[Method, Answer]:
        return {
            messages.PREDICT: self.predict,
            messages.GET_MODEL_METADATA: self.metadata,
            messages.GET_MODEL_STATUS: self.status,
        }

    def predict(self, request: Any, deadline: float | None) -> Any:
        spec = _spec(request)
        prediction = self._core.predict(
            spec, lambda s: _inputs(s, request.inputs), output_filter=request.output_filter, deadline=deadline
        )
        response = messages.PredictResponse()
        for alias, array in prediction.outputs.items():
            response.outputs[alias].CopyFrom(tensors.to_proto(array, as_content=self._as_content))
        name = spec.signature_name or DEFAULT_SIGNATURE
        _describe(response.model_spec, spec.name, prediction.version, name)
        return response

    def metadata(self, request: Any, deadline: float | None) -> Any:
        spec = _spec(request)
        if not request.metadata_field:
            raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != "signature_def":
                raise InvalidArgument(f"Metadata field {name} is not supported")
        found = self._core.metadata(spec)
        signature_defs = messages.SignatureDefMap()
        for name, definition in found.signature_defs.items():
            signature_defs.signature_def[name].CopyFrom(definition)
        response = messages.GetModelMetadataResponse()
        response.metadata["signature_def"].CopyFrom(messages.pack(signature_defs))
        _describe(response.model_spec, spec.name, found.version, "")
        return response

    def status(self, request: Any, deadline: float | None) -> Any:
        spec = _spec(request)
        response = messages.GetModelStatusResponse()
        for row in self._core.status(spec.name, spec.version):
            added = response.model_version_status.add(version=row.version, state=int(row.state))
            added.status.SetInParent()
            added.status.error_code = row.error_code
            added.status.error_message = row.error_message
        return response


class GrpcServer:
    """Listens from when it is made; stopping lets the calls under way end."""

    def __init__(self, door: GrpcDoor, address: str, *, threads: int, max_message_bytes: int, drain_s: float) -> None:
        self._drain_s = drain_s
        self._pool = ThreadPoolExecutor(threads, "grpc")
        self._server = grpc.server(
            self._pool,
            options=(
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", _UNBOUNDED),
                ("grpc.so_reuseport", 0),  # a port that is taken must be an error, not shared
            ),
        )
        by_service: dict[str, dict[str, Any]] = {}
        for method, answer in door.answers().items():
            by_service.setdefault(method.service, {})[method.name] = _handler(method, answer)
        self._server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(service, rpcs) for service, rpcs in by_service.items())
        )
        try:
            self.port: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise Unavailable(f"gRPC cannot listen on {address}: {error}") from error
        if not self.port:
            raise Unavailable(f"gRPC cannot listen on {address}: is the port taken?")

    def start(self) -> None:
        self._server.start()

    def begin_stop(self) -> None:
        self._stopped = self._server.stop(self._drain_s)

    def wait_stopped(self) -> None:
        self._stopped.wait()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _handler(method: Method, answer: Answer) -> Any:
    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return answer(request, _deadline(context))
        except HeadraceError as error:
            context.abort(_CODES[error.grpc_code], _cut(error.message))
        except Exception:
            log.exception("call failed", extra={"rpc": method.path})
            context.abort(grpc.StatusCode.INTERNAL, "internal error; the server's log has more")

    return grpc.unary_unary_rpc_method_handler(
        handle, request_deserializer=method.request.FromString, response_serializer=method.response.SerializeToString
    )


def _deadline(context: grpc.ServicerContext) -> float | None:
    left = context.time_remaining()
    return None if left is None or left > _FOREVER_S else time.monotonic() + left


def _cut(details: str) -> str:
    data = details.encode("utf-8", "replace")
    return details if len(data) <= _DETAILS_BYTES else data[:_DETAILS_BYTES].decode("utf-8", "ignore") + "...TRUNCATED"


def _spec(request: Any) -> ModelSpec:
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    spec = request.model_spec
    chosen = spec.WhichOneof("version_choice")
    return ModelSpec(
        spec.name,
        version=spec.version.value if chosen == "version" else None,
        label=spec.version_label if chosen == "version_label" else None,
        signature_name=spec.signature_name,
    )


def _describe(spec: Any, name: str, version: int, signature_name: str) -> None:
    spec.name = name
    spec.version.value = version
    spec.signature_name = signature_name


def _inputs(signature: Signature, sent: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The request's tensors, with the signature's defaults where it left some out."""
    _check_names(signature, sent)
    arrays = {}
    for alias in signature.inputs:
        proto = sent[alias] if alias in sent else signature.defaults[alias]
        if proto.tensor_shape.unknown_rank:
            proto.tensor_shape.unknown_rank = False  # with no dimensions, that is a scalar to TF Serving
        try:
            arrays[alias] = tensors.from_proto(proto)
        except InvalidArgument as error:
            raise InvalidArgument(f"tensor parsing error: {alias}") from error
    return arrays


def _check_names(signature: Signature, sent: Mapping[str, Any]) -> None:
    wanted, given, defaults = set(signature.inputs), set(sent), set(signature.defaults)
    extra, missing = given - wanted, wanted - given - defaults
    if len(given) != len(wanted) and (extra or missing):
        raise InvalidArgument(
            f"input size does not match signature: {len(given)}!={len(wanted)} len({_set(given)}) != "
            f"len({_set(wanted)}). Sent extra: {_set(extra)}. Missing but required: {_set(missing)}."
        )
    for alias in sorted(missing):
        raise InvalidArgument(
            f"Signature input alias: {alias}(feed name: {signature.inputs[alias].tensor_name}) not found in request "
            f"and no default value provided. Inputs expected to be in the request {_set(wanted)}, or default input "
            f"alias set: {_set(defaults)}"
        )
    for alias in sorted(extra):
        used = _set(wanted & given)
        raise InvalidArgument(f"Inputs contains invalid name. Used request inputs: {used}, request input: {alias}")


def _set(names: set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
