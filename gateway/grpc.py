"""The gRPC door: raw bytes in, checked against the live signature, the same bytes and a version pin
out.

Requests are parsed once to be checked and never encoded again; answers are not looked into at all.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import grpc.aio

from gateway import check, errors
from gateway.check import VERSION_HEADER
from gateway.contracts.catalog import Catalog, Contract
from gateway.core import Core
from headrace.http import request_id as request_ids
from headrace.http.access_log import UNKNOWN, RequestInfo
from headrace.http.request_id import HEADER
from headrace.protocol import messages
from headrace.protocol.errors import (
    DETAILS_METADATA,
    DeadlineExceeded,
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
_TEXT_LIMIT = 1024
_DETAILS_LIMIT = 4096


@dataclass(slots=True, kw_only=True)
class Call(RequestInfo):
    path: str
    request_id: str
    passed_id: str
    started: float
    # Both on the monotonic clock.
    deadline: float

    @property
    def left_s(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(
                "the deadline passed before the call was sent to the serving backend"
            )
        return left


Answer = Callable[[bytes, Call], Awaitable[bytes]]
# Of (catalog, target, message, noted).
Check = Callable[..., Contract]


class GrpcDoor:
    def __init__(self, core: Core, *, shared: bool = False) -> None:
        self._core = core
        self._settings = core.settings
        # With the other workers of this gateway.
        self._shared = shared
        self._server: Any = None

    async def start(self) -> int:
        """Open the port; the number that was bound. OSError when it is taken."""
        s = self._settings
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", s.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                (
                    "grpc.so_reuseport",
                    int(self._shared),
                    # A second gateway must fail here, not share the port.
                ),
                ("grpc.max_concurrent_streams", s.max_grpc_streams),
                ("grpc.server_handshake_timeout_ms", round(s.head_s * 1000)),
            ]
        )
        server.add_generic_rpc_handlers(self._handlers())
        try:
            port = int(server.add_insecure_port(f"{_host(s.bind_address)}:{s.grpc_port}"))
        except RuntimeError as e:
            raise OSError(str(e)) from e
        if port == 0:
            raise OSError(f"cannot listen on {s.bind_address}:{s.grpc_port}")
        await server.start()
        self._server = server
        return port

    async def stop(self, *, grace_s: float) -> None:
        if self._server is not None:
            await self._server.stop(grace_s)

    def _handlers(self) -> tuple[Any, ...]:
        services: dict[str, dict[str, Any]] = {}
        answers: dict[str, Answer] = {
            messages.PREDICT.name: self._inference(messages.PREDICT, check.predict_message),
            messages.CLASSIFY.name: self._inference(messages.CLASSIFY, _examples(check.CLASSIFY)),
            messages.REGRESS.name: self._inference(messages.REGRESS, _examples(check.REGRESS)),
            messages.MULTI_INFERENCE.name: self._multi_inference,
            messages.GET_MODEL_METADATA.name: self._about(messages.GET_MODEL_METADATA),
            messages.GET_MODEL_STATUS.name: self._about(messages.GET_MODEL_STATUS),
            messages.HANDLE_RELOAD_CONFIG_REQUEST.name: _refuse_reload,
        }
        for method in messages.METHODS:
            handler = grpc.unary_unary_rpc_method_handler(
                self._handler(method.path, answers[method.name])
            )
            services.setdefault(method.service, {})[method.name] = handler
        return tuple(
            grpc.method_handlers_generic_handler(name, table) for name, table in services.items()
        )

    def _handler(self, path: str, answer: Answer) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def handle(request: bytes, context: Any) -> bytes:
            call = self._call(path, context)
            call.request_bytes = len(request)
            reply = b""
            self._core.metrics.began()
            # Stays when the caller goes away: gRPC then cancels this task, and with it what it
            # awaits.
            status = "CANCELLED"
            try:
                reply = await answer(request, call)
                status = "OK"
                return reply
            except Exception as e:
                error = _told(e, call)
                status = error.status_name
                text = error.message[:_TEXT_LIMIT]
                await context.abort(_CODES[error.grpc_code], text, _trailing(error, call))
                raise AssertionError("abort() raises") from e
            finally:
                self._core.metrics.ended()
                self._record(call, status, len(reply))

        return handle

    def _call(self, path: str, context: Any) -> Call:
        now, remaining = time.monotonic(), context.time_remaining()
        given = next(
            (value for key, value in context.invocation_metadata() or () if key == HEADER),
            None,
        )
        timeout_s = self._settings.timeout_s
        request_id = request_ids.accept(
            given.encode("utf-8", "replace") if isinstance(given, str) else None
        )
        return Call(
            path=path,
            request_id=request_id,
            # An id of our own is for our log and the caller; metadata that nobody asked for costs
            # 20 us on its way.
            passed_id=request_id if request_id == given else "",
            started=now,
            deadline=now + (timeout_s if remaining is None else min(remaining, timeout_s)),
        )

    def _inference(self, method: Method, checked: Check) -> Answer:
        """A call whose model_spec is its first field: pinned by one more of it."""

        def answer(request: bytes, call: Call) -> Awaitable[bytes]:
            message = messages.parse(method.request, request)
            target = _target(message)

            def pinned(contract: Contract) -> bytes:
                return request + contract.grpc_pin

            work = partial(checked, target=target, message=message, noted=call)
            return self._sent(method, target, call, work, size=len(request), pinned=pinned)

        return answer

    async def _multi_inference(self, request: bytes, call: Call) -> bytes:
        message = messages.parse(messages.MULTI_INFERENCE.request, request)
        if not message.tasks:
            raise InvalidArgument("tasks: none, expected at least one")

        def pinned(contract: Contract) -> bytes:
            # The backend goes by the first task's choice; repeated fields do not merge, so it is
            # written anew.
            message.tasks[0].model_spec.version.value = contract.version
            return bytes(message.SerializeToString())

        target = _target(message.tasks[0], "tasks[0].model_spec")
        work = partial(check.tasks_message, target=target, message=message, noted=call)
        return await self._sent(
            messages.MULTI_INFERENCE, target, call, work, size=len(request), pinned=pinned
        )

    def _sent(
        self,
        method: Method,
        target: ModelSpec,
        call: Call,
        checked: Callable[[Catalog], Contract],
        *,
        size: int,
        pinned: Callable[[Contract], bytes],
    ) -> Awaitable[bytes]:
        async def send(contract: Contract) -> bytes:
            try:
                return await self._core.grpc.call(
                    method.path, pinned(contract), timeout_s=call.left_s, request_id=call.passed_id
                )
            except HeadraceError as e:
                e.message = errors.without_graph(e.message)
                raise

        threaded = 0 <= self._settings.thread_body_bytes < size
        return self._core.predict(target, check=checked, send=send, threaded=threaded)

    def _about(self, method: Any) -> Answer:
        async def answer(request: bytes, call: Call) -> bytes:
            message = messages.parse(method.request, request)
            if (
                method is messages.GET_MODEL_STATUS
                and message.HasField("model_spec")
                and not message.model_spec.name
            ):
                # TensorFlow Serving's code for it, here alone.
                raise NotFound("model_spec.name: empty")
            target = _target(message)
            if target.name not in self._core.catalog.models:
                await self._core.registry.missed(target.name)
            call.model = self._core.catalog.model(target.name).name
            try:
                reply = await self._core.grpc.call(
                    method.path, request, timeout_s=call.left_s, request_id=call.passed_id
                )
            except (NotFound, InvalidArgument):
                self._core.catalog.refuse_unknown(target)
                raise
            if method is messages.GET_MODEL_METADATA:
                spec = messages.parse(method.response, reply).model_spec
                await self._core.told(call.model, int(spec.version.value))
            return reply

        return answer

    def _record(self, call: Call, code: str, response_bytes: int) -> None:
        seconds = time.monotonic() - call.started
        self._core.metrics.answered(
            "grpc", call.model, call.version, call.signature, code, seconds=seconds
        )
        self._core.access_log.write(
            call,
            request_id=call.request_id,
            protocol="grpc",
            method="POST",
            path=call.path,
            status=code,
            seconds=seconds,
            response_bytes=response_bytes,
        )


def _target(message: Any, place: str = "model_spec") -> ModelSpec:
    if not message.HasField("model_spec"):
        raise InvalidArgument(f"{place}: missing")
    spec = message.model_spec
    if not spec.name:
        raise InvalidArgument(f"{place}.name: empty")
    which = spec.WhichOneof("version_choice")
    if which == "version":
        return ModelSpec(spec.name, version=int(spec.version.value))
    if which == "version_label" and spec.version_label:
        return ModelSpec(spec.name, label=spec.version_label)
    return ModelSpec(spec.name)


def _examples(method: str) -> Check:
    def checked(catalog: Catalog, target: ModelSpec, message: Any, noted: RequestInfo) -> Contract:
        return check.examples_message(catalog, target, method, message, noted)

    return checked


async def _refuse_reload(request: bytes, call: Call) -> bytes:
    raise PermissionDenied(
        "the model list belongs to the store: change multimodel.config there and `make reload`; "
        "a backend behind this gateway is not reconfigured through it"
    )


def _trailing(error: HeadraceError, call: Call) -> tuple[tuple[str, str], ...]:
    """What REST says in head and body beside the message."""
    entries = [(HEADER, call.request_id)]
    if call.version != UNKNOWN:
        entries.append((VERSION_HEADER, call.version))
    told = json.dumps(errors.details(error))
    if told != "[]" and len(told) <= _DETAILS_LIMIT:
        entries.append((DETAILS_METADATA, told))
    return tuple(entries)


def _told(e: Exception, call: Call) -> HeadraceError:
    """An error of the tree: a fault of ours is logged whole and told without its insides."""
    if isinstance(e, HeadraceError):
        return e
    log.exception("a call failed inside the gateway", extra={"request_id": call.request_id})
    return Internal("the gateway failed on this call; its log says why")


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
