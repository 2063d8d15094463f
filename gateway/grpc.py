"""The gRPC door: raw bytes in, checked against the live signature, the same bytes and a version pin out.

Requests are parsed once to be checked and never encoded again; answers are not looked into at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from gateway import errors
from gateway import log as logs
from gateway.contracts import Contract, Target
from gateway.core import Core
from gateway.metrics import UNKNOWN
from headrace.wire import messages, signatures, tensors
from headrace.wire.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    HeadraceError,
    Internal,
    InvalidArgument,
    Unimplemented,
)

log = logging.getLogger("gateway")

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_TEXT_LIMIT = 1024  # error texts travel in a header, whose room is small


@dataclass(slots=True)
class Call:
    method: str
    request_id: str
    started: float
    deadline: float  # both on the monotonic clock
    model: str = UNKNOWN
    version: str = UNKNOWN
    signature: str = UNKNOWN

    @property
    def left_s(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("the deadline passed before the call was sent to the serving backend")
        return left


Answer = Callable[[bytes, Call], Awaitable[bytes]]


class GrpcDoor:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._settings = core.settings
        self._server: Any = None

    async def start(self) -> int:
        """Open the port; the number that was bound. OSError when it is taken."""
        s = self._settings
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", s.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # a second gateway must fail here, not share the port
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
            messages.PREDICT.name: self._predict,
            messages.GET_MODEL_METADATA.name: self._about(messages.GET_MODEL_METADATA),
            messages.GET_MODEL_STATUS.name: self._about(messages.GET_MODEL_STATUS),
        }
        for method in messages.METHODS:
            answer = answers.get(method.name, _unimplemented(method.name))
            handler = grpc.unary_unary_rpc_method_handler(self._handler(method.name, answer))
            services.setdefault(method.service, {})[method.name] = handler
        return tuple(grpc.method_handlers_generic_handler(name, table) for name, table in services.items())

    def _handler(self, method: str, answer: Answer) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def handle(request: bytes, context: Any) -> bytes:
            call = self._call(method, context)
            self._core.metrics.in_flight += 1
            status = (
                "CANCELLED"  # stays when the caller goes away: gRPC then cancels this task, and with it what it awaits
            )
            try:
                reply = await _guarded(answer, request, call)
                status = "OK"
                return reply
            except HeadraceError as e:
                status = e.status_name
                await context.abort(_CODES[e.grpc_code], e.message[:_TEXT_LIMIT])
                raise AssertionError("abort() raises") from e
            finally:
                self._core.metrics.in_flight -= 1
                self._record(call, status)

        return handle

    def _call(self, method: str, context: Any) -> Call:
        now, remaining = time.monotonic(), context.time_remaining()
        given = dict(context.invocation_metadata() or ()).get("x-request-id")
        timeout_s = self._settings.timeout_s
        return Call(
            method,
            logs.request_id(given.encode("utf-8", "replace") if isinstance(given, str) else None),
            now,
            now + (timeout_s if remaining is None else min(remaining, timeout_s)),
        )

    async def _predict(self, request: bytes, call: Call) -> bytes:
        message = messages.parse(messages.PREDICT.request, request)
        target = _target(message)

        async def check() -> Contract:
            if 0 <= self._settings.thread_body_bytes < len(request):
                return await asyncio.to_thread(self._check, call, target, message)
            return self._check(call, target, message)

        async def send(contract: Contract) -> bytes:
            try:
                return await self._core.grpc.call(
                    messages.PREDICT.path,
                    request + contract.grpc_pin,
                    timeout_s=call.left_s,
                    request_id=call.request_id,
                )
            except HeadraceError as e:
                e.message = errors.without_graph(e.message)
                raise

        return await self._core.predict(target, check=check, send=send)

    def _check(self, call: Call, target: Target, message: Any) -> Contract:
        contract = self._core.catalog.resolve(target)
        call.model, call.version = contract.model, str(contract.version)
        try:
            name = call.signature = contract.signature(message.model_spec.signature_name)
        except InvalidArgument as e:
            raise FailedPrecondition(e.message, fault=e.fault) from e
        outputs = contract.signatures[name].outputs
        for alias in message.output_filter:
            if alias not in outputs:
                raise InvalidArgument(f'output_filter: no output "{alias[:200]}"; there are {", ".join(outputs)}')
        shapes = {}
        for alias, tensor in message.inputs.items():
            try:
                shapes[alias] = tensors.described(tensor)
            except InvalidArgument as e:
                raise InvalidArgument(f"inputs.{alias}: {e.message}", fault=e.fault) from e
        signatures.check(contract.checked[name], shapes, row_format=None)
        return contract

    def _about(self, method: Any) -> Answer:
        async def answer(request: bytes, call: Call) -> bytes:
            target = _target(messages.parse(method.request, request))
            if target.model not in self._core.catalog.models:
                await self._core.registry.missed(target.model)
            call.model = self._core.catalog.model(target.model).name
            reply = await self._core.watched(
                self._core.grpc.call(method.path, request, timeout_s=call.left_s, request_id=call.request_id)
            )
            if method is messages.GET_MODEL_METADATA:
                spec = messages.parse(method.response, reply).model_spec
                await self._core.told(call.model, int(spec.version.value))
            return reply

        return answer

    def _record(self, call: Call, code: str) -> None:
        seconds = time.monotonic() - call.started
        self._core.metrics.answered("grpc", call.model, call.version, call.signature, code, seconds=seconds)
        self._core.access_log.write(
            id=call.request_id,
            door="grpc",
            method=call.method,
            model=call.model,
            version=call.version,
            status=code,
            ms=round(seconds * 1000, 3),
        )


def _target(message: Any) -> Target:
    if not message.HasField("model_spec"):
        raise InvalidArgument("model_spec: missing")
    spec = message.model_spec
    if not spec.name:
        raise InvalidArgument("model_spec.name: empty")
    which = spec.WhichOneof("version_choice")
    if which == "version":
        return Target(spec.name, version=int(spec.version.value))
    if which == "version_label" and spec.version_label:
        return Target(spec.name, label=spec.version_label)
    return Target(spec.name)


def _unimplemented(name: str) -> Answer:
    async def answer(request: bytes, call: Call) -> bytes:
        raise Unimplemented(f"{name} does not go through this gateway; Predict, GetModelMetadata and GetModelStatus do")

    return answer


async def _guarded(answer: Answer, request: bytes, call: Call) -> bytes:
    """An answer, or an error of the tree: a fault of ours is logged whole and told without its insides."""
    try:
        return await answer(request, call)
    except HeadraceError:
        raise
    except Exception as e:
        log.exception("a call failed inside the gateway", extra={"id": call.request_id})
        raise Internal("the gateway failed on this call; its log says why") from e


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
