"""The gRPC door: services as generic handlers over our own messages, in a few threads."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from headrace.http import request_id as request_ids
from headrace.http.access_log import UNKNOWN, AccessLog, RequestInfo
from headrace.protocol import messages
from headrace.protocol.errors import HeadraceError, Unavailable
from headrace.protocol.messages import Method
from headrace.server.batching.thread_batcher import CALLER, Caller
from headrace.server.grpc import requests
from headrace.server.grpc.health import Health
from headrace.server.grpc.reflection import Reflection
from headrace.server.grpc.services import Answer, Answers

log = logging.getLogger(__name__)

_DETAILS_BYTES = 1024
_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_ARGUMENTS: Mapping[str, int | str] = {
    "grpc.max_send_message_length": (1 << 31) - 1,
    # A port that is taken must be an error, not shared.
    "grpc.so_reuseport": 0,
}
_SLOW_THREADS = 4
# About states and signatures.
_QUESTIONS = (messages.GET_MODEL_STATUS, messages.GET_MODEL_METADATA)
# GRPC says "no deadline" with a very long one.
_FOREVER_S = 10_000_000.0


class GrpcServer:
    """Listens from when it is made; stopping lets the calls under way end.

    ``addresses`` are host:port, whose port is then ``port``, or unix:path; one ``credentials`` for
    all. ``slow`` answers may take minutes, and work in threads of their own. ``health`` adds gRPC's
    health service.
    """

    def __init__(
        self,
        answers: Answers,
        addresses: Sequence[str],
        *,
        slow: Answers | None = None,
        health: bool = False,
        credentials: grpc.ServerCredentials | None = None,
        arguments: Sequence[tuple[str, int | str]] = (),
        threads: int,
        max_message_bytes: int,
        drain_s: float,
        access: AccessLog | None = None,
    ) -> None:
        self._drain_s = drain_s
        self._access = access or AccessLog("off")
        self._pool = ThreadPoolExecutor(threads, "grpc")
        self._slow_pool = ThreadPoolExecutor(_SLOW_THREADS, "grpc-slow")
        self._health = Health() if health else None
        self._server = grpc.server(
            self._pool,
            options=tuple(
                {
                    **_ARGUMENTS,
                    "grpc.max_receive_message_length": max_message_bytes,
                    **dict(arguments),
                }.items()
            ),
        )
        self._server.add_generic_rpc_handlers(self._handlers(answers, slow or {}))
        self.port = 0
        for address in addresses:
            port = self._listen(address, credentials)
            self.port = self.port if address.startswith("unix:") else port

    def start(self) -> None:
        self._server.start()

    def begin_stop(self) -> None:
        if self._health:
            self._health.stop()
        self._stopped = self._server.stop(self._drain_s)

    def wait_stopped(self) -> None:
        self._stopped.wait()
        for pool in (self._pool, self._slow_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                port: int = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise Unavailable(f"gRPC cannot listen on {address}: {error}") from error
        if not port:
            raise Unavailable(f"gRPC cannot listen on {address}: is the port taken?")
        return port

    def _handlers(self, answers: Answers, slow: Answers) -> list[grpc.GenericRpcHandler]:
        by_service: dict[str, dict[str, Any]] = {}
        for method, answer in answers.items():
            by_service.setdefault(method.service, {})[method.name] = _handler(
                method, answer, self._access
            )
        for method, answer in slow.items():
            by_service.setdefault(method.service, {})[method.name] = _handler(
                method, answer, self._access, pool=self._slow_pool
            )
        handlers = [
            grpc.method_handlers_generic_handler(service, rpcs)
            for service, rpcs in by_service.items()
        ]
        services = list(by_service)
        if self._health:
            handlers.append(self._health.handler())
            services.append(messages.HEALTH_SERVICE)
        return [*handlers, *Reflection(services, self._slow_pool).handlers()]


def _handler(
    method: Method, answer: Answer, access: AccessLog, *, pool: ThreadPoolExecutor | None = None
) -> Any:
    is_question = method in _QUESTIONS
    path = method.path

    def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
        started, status = time.perf_counter(), "OK"
        request, response, reply = None, None, b""
        caller = Caller()
        CALLER.set(caller)
        if not context.add_callback(caller.leave):
            caller.leave()
        try:
            request = requests.parse(method.request, data)
            response = answer(request, _deadline(context))
            reply = bytes(response.SerializeToString())
            return reply
        except HeadraceError as error:
            status = error.status_name
            context.abort(_CODES[error.grpc_code], _cut(error.message))
        except Exception:
            status = "INTERNAL"
            log.exception("call failed", extra={"path": path})
            context.abort(grpc.StatusCode.INTERNAL, "internal error; the server's log has more")
        finally:
            if access.enabled and not (is_question and status == "OK"):
                access.write(
                    _request_info(request, response, len(data)),
                    request_id=_request_id(context),
                    protocol="grpc",
                    method="POST",
                    path=path,
                    status=status,
                    seconds=time.perf_counter() - started,
                    response_bytes=len(reply),
                )
        raise AssertionError("abort() raises")

    if pool is not None:
        handle.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return grpc.unary_unary_rpc_method_handler(handle)


def _request_info(request: Any, response: Any, request_bytes: int) -> RequestInfo:
    """For the access log; request and response are None where there is none."""
    info = RequestInfo(request_bytes=request_bytes)
    asked = _model_spec(request)
    if asked is not None and asked.name:
        info.model = asked.name
    answered = _model_spec(response)
    if answered is not None:
        info.version = str(answered.version.value)
        info.signature = answered.signature_name or UNKNOWN
    return info


def _model_spec(message: Any) -> Any:
    """The first one, where there are several; None where there is none."""
    if isinstance(message, messages.MultiInferenceRequest):
        message = next(iter(message.tasks), None)
    elif isinstance(message, messages.MultiInferenceResponse):
        message = next(iter(message.results), None)
    return getattr(message, "model_spec", None)


def _request_id(context: grpc.ServicerContext) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == request_ids.HEADER:
            return value if isinstance(value, str) else value.decode("latin-1")
    return ""


def _deadline(context: grpc.ServicerContext) -> float | None:
    left = context.time_remaining()
    return None if left is None or left > _FOREVER_S else time.monotonic() + left


def _cut(details: str) -> str:
    data = details.encode("utf-8", "replace")
    return (
        details
        if len(data) <= _DETAILS_BYTES
        else data[:_DETAILS_BYTES].decode("utf-8", "ignore") + "...TRUNCATED"
    )
