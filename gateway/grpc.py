"""The gRPC door: checks a request against the live signature and forwards the bytes that came,
pinned to the version.

Requests are parsed once to be checked and never encoded again; answers are not looked into at all.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from gateway import check, errors
from gateway.calls.call import Call
from gateway.calls.grpc_calls import (
    ExamplesMessageCall,
    MultiInferenceCall,
    PredictMessageCall,
    left_s,
)
from gateway.check import VERSION_HEADER
from gateway.core import Core
from headrace.http import request_id as request_ids
from headrace.http.access_log import UNKNOWN, RequestInfo
from headrace.http.request_id import HEADER
from headrace.protocol import messages
from headrace.protocol.errors import (
    DETAILS_METADATA,
    HeadraceError,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from headrace.protocol.messages import Method
from headrace.protocol.model_spec import ModelSpec

log = logging.getLogger("gateway")

_CODES = {code.value[0]: code for code in grpc.StatusCode}
# Error texts and details travel in headers, whose room is small.
_MAX_TEXT = 1024
_MAX_DETAILS = 4096


@dataclass(slots=True, kw_only=True)
class Request(RequestInfo):
    path: str
    # The id for the backend: the caller's own, or none. Ours is for the log and the caller, since
    # metadata that nobody asked for costs 20 us on its way.
    backend_request_id: str
    # Both on the monotonic clock.
    started_at: float
    deadline: float


Handler = Callable[[bytes, Request], Awaitable[bytes]]


class GrpcDoor:
    def __init__(self, core: Core, *, shared: bool = False) -> None:
        """``shared``: the port is, with the other workers of this gateway."""
        self._core = core
        self._settings = core.settings
        self._shared = shared
        self._server: Any = None

    async def start(self) -> int:
        """Open the port; the number that was bound. OSError when it is taken."""
        s = self._settings
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", s.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                # A second gateway must fail here, not share the port.
                ("grpc.so_reuseport", int(self._shared)),
                ("grpc.max_concurrent_streams", s.max_grpc_streams),
                ("grpc.server_handshake_timeout_ms", round(s.head_s * 1000)),
            ]
        )
        server.add_generic_rpc_handlers(self._rpc_handlers())
        try:
            port = int(server.add_insecure_port(f"{_host(s.bind_address)}:{s.grpc_port}"))
        except RuntimeError as error:
            raise OSError(str(error)) from error
        if port == 0:
            raise OSError(f"cannot listen on {s.bind_address}:{s.grpc_port}")
        await server.start()
        self._server = server
        return port

    async def stop(self, *, grace_s: float) -> None:
        if self._server is not None:
            await self._server.stop(grace_s)

    def _rpc_handlers(self) -> tuple[Any, ...]:
        handlers: dict[Method, Handler] = {
            messages.PREDICT: self._predict,
            messages.CLASSIFY: self._examples(messages.CLASSIFY, check.CLASSIFY),
            messages.REGRESS: self._examples(messages.REGRESS, check.REGRESS),
            messages.MULTI_INFERENCE: self._multi_inference,
            messages.GET_MODEL_METADATA: self._describe(messages.GET_MODEL_METADATA),
            messages.GET_MODEL_STATUS: self._describe(messages.GET_MODEL_STATUS),
            messages.HANDLE_RELOAD_CONFIG_REQUEST: _refuse_reload,
        }
        services: dict[str, dict[str, Any]] = {}
        for method, handler in handlers.items():
            rpc = grpc.unary_unary_rpc_method_handler(self._rpc(method.path, handler))
            services.setdefault(method.service, {})[method.name] = rpc
        return tuple(
            grpc.method_handlers_generic_handler(name, rpcs) for name, rpcs in services.items()
        )

    def _rpc(self, path: str, handler: Handler) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def rpc(data: bytes, context: Any) -> bytes:
            request = self._request(path, context)
            request.request_bytes = len(data)
            reply = b""
            self._core.metrics.began()
            # What stays when the caller goes away: gRPC then cancels this task, and with it what
            # the task awaits.
            status = "CANCELLED"
            try:
                reply = await handler(data, request)
                status = "OK"
                return reply
            except Exception as cause:
                error = _headrace_error(cause, request)
                status = error.status_name
                text = error.message[:_MAX_TEXT]
                await context.abort(_CODES[error.grpc_code], text, _trailers(error, request))
                raise AssertionError("abort() raises") from cause
            finally:
                self._core.metrics.ended()
                self._record(request, status, len(reply))

        return rpc

    def _request(self, path: str, context: Any) -> Request:
        now = time.monotonic()
        timeout_s = self._settings.timeout_s
        remaining_s = context.time_remaining()
        if remaining_s is not None:
            timeout_s = min(remaining_s, timeout_s)
        caller_id = _caller_id(context)
        request_id = request_ids.accept(caller_id)
        is_callers = caller_id is not None and request_id.encode() == caller_id
        return Request(
            path=path,
            request_id=request_id,
            backend_request_id=request_id if is_callers else "",
            started_at=now,
            deadline=now + timeout_s,
        )

    def _predict(self, data: bytes, request: Request) -> Awaitable[bytes]:
        message = messages.parse(messages.PREDICT.request, data)
        spec = _model_spec(message)
        return self._run(PredictMessageCall, messages.PREDICT, spec, data, message, request)

    def _examples(self, method: Method, verb: str) -> Handler:
        def handler(data: bytes, request: Request) -> Awaitable[bytes]:
            message = messages.parse(method.request, data)
            spec = _model_spec(message)
            return self._run(ExamplesMessageCall, method, spec, data, message, request, verb=verb)

        return handler

    def _multi_inference(self, data: bytes, request: Request) -> Awaitable[bytes]:
        method = messages.MULTI_INFERENCE
        message = messages.parse(method.request, data)
        if not message.tasks:
            raise InvalidArgument("tasks: none, expected at least one")
        spec = _model_spec(message.tasks[0], "tasks[0].model_spec")
        return self._run(MultiInferenceCall, method, spec, data, message, request)

    def _run(
        self,
        call_type: Callable[..., Call[bytes]],
        method: Method,
        spec: ModelSpec,
        data: bytes,
        message: Any,
        request: Request,
        **fields: Any,
    ) -> Awaitable[bytes]:
        """``fields`` are those that only this type of call has."""
        call = call_type(
            method=method,
            spec=spec,
            request=data,
            message=message,
            info=request,
            request_id=request.backend_request_id,
            deadline=request.deadline,
            is_big=0 <= self._settings.thread_body_bytes < len(data),
            upstream=self._core.grpc,
            **fields,
        )
        return self._core.run(call)

    def _describe(self, method: Method) -> Handler:
        """Status and metadata: the backend's answer as it is, for models that are configured."""

        async def handler(data: bytes, request: Request) -> bytes:
            message = messages.parse(method.request, data)
            if method is messages.GET_MODEL_STATUS:
                _check_status_request(message)
            spec = _model_spec(message)
            if spec.name not in self._core.catalog.models:
                await self._core.registry.look_up(spec.name)
            request.model = self._core.catalog.model(spec.name).name
            try:
                reply = await self._core.grpc.call(
                    method.path,
                    data,
                    timeout_s=left_s(request.deadline),
                    request_id=request.backend_request_id,
                )
            except (NotFound, InvalidArgument):
                self._core.catalog.raise_if_unknown(spec)
                raise
            if method is messages.GET_MODEL_METADATA:
                version = messages.parse(method.response, reply).model_spec.version.value
                await self._core.know_version(request.model, int(version))
            return reply

        return handler

    def _record(self, request: Request, code: str, response_bytes: int) -> None:
        seconds = time.monotonic() - request.started_at
        self._core.metrics.answered(
            "grpc", request.model, request.version, request.signature, code, seconds=seconds
        )
        self._core.access_log.write(
            request,
            request_id=request.request_id,
            protocol="grpc",
            method="POST",
            path=request.path,
            status=code,
            seconds=seconds,
            response_bytes=response_bytes,
        )


def _model_spec(message: Any, path: str = "model_spec") -> ModelSpec:
    if not message.HasField("model_spec"):
        raise InvalidArgument(f"{path}: missing")
    spec = message.model_spec
    if not spec.name:
        raise InvalidArgument(f"{path}.name: empty")
    choice = spec.WhichOneof("version_choice")
    if choice == "version":
        return ModelSpec(spec.name, version=int(spec.version.value))
    if choice == "version_label" and spec.version_label:
        return ModelSpec(spec.name, label=spec.version_label)
    return ModelSpec(spec.name)


def _check_status_request(message: Any) -> None:
    if message.HasField("model_spec") and not message.model_spec.name:
        # TensorFlow Serving's code for it, for this request alone.
        raise NotFound("model_spec.name: empty")


async def _refuse_reload(data: bytes, request: Request) -> bytes:
    raise PermissionDenied(
        "the model list belongs to the store: change multimodel.config there and `make reload`; "
        "a backend behind this gateway is not reconfigured through it"
    )


def _caller_id(context: Any) -> bytes | None:
    for key, value in context.invocation_metadata() or ():
        if key == HEADER and isinstance(value, str):
            return value.encode("utf-8", "replace")
    return None


def _trailers(error: HeadraceError, request: Request) -> tuple[tuple[str, str], ...]:
    """What REST says in head and body beside the message."""
    trailers = [(HEADER, request.request_id)]
    if request.version != UNKNOWN:
        trailers.append((VERSION_HEADER, request.version))
    details = json.dumps(errors.details(error))
    if details != "[]" and len(details) <= _MAX_DETAILS:
        trailers.append((DETAILS_METADATA, details))
    return tuple(trailers)


def _headrace_error(cause: Exception, request: Request) -> HeadraceError:
    """Our own failures are logged whole; the caller hears nothing of the gateway's insides."""
    if isinstance(cause, HeadraceError):
        return cause
    log.exception("a call failed inside the gateway", extra={"request_id": request.request_id})
    return Internal("the gateway failed on this call; its log says why")


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
