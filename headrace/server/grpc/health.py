"""gRPC's health service, as TensorFlow Serving registers it: SERVING from the start, whatever the
models do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc

from headrace.protocol import messages
from headrace.server.grpc.requests import parse_or_abort

SERVICES = ("", "ModelService", "PredictionService")

_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3

Send = Callable[[Any], None]


class Health:
    """Check and Watch. A watch waits without a thread of its own, however many there are."""

    def __init__(self) -> None:
        self._watchers: dict[object, Send] = {}
        self._lock = threading.Lock()

    def handler(self) -> grpc.GenericRpcHandler:
        write = messages.HealthCheckResponse.SerializeToString

        def watch(data: bytes, context: grpc.ServicerContext, send: Send) -> None:
            request = parse_or_abort(messages.HealthCheckRequest, data, context)
            self._watch(request.service, context, send)

        # gRPC's own health package waits in the same way: the call stays open when this returns.
        watch.experimental_non_blocking = True  # type: ignore[attr-defined]
        rpcs = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, response_serializer=write),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, response_serializer=write),
        }
        return grpc.method_handlers_generic_handler(messages.HEALTH_SERVICE, rpcs)

    def stop(self) -> None:
        """Tells the watchers that the server stops, and ends their calls."""
        with self._lock:
            watchers = list(self._watchers.values())
            self._watchers.clear()
        for send in watchers:
            send(messages.HealthCheckResponse(status=_NOT_SERVING))
            send(None)

    def _check(self, data: bytes, context: grpc.ServicerContext) -> Any:
        request = parse_or_abort(messages.HealthCheckRequest, data, context)
        if request.service not in SERVICES:
            context.abort(grpc.StatusCode.NOT_FOUND, "service name unknown")
        return messages.HealthCheckResponse(status=_SERVING)

    def _watch(self, service: str, context: grpc.ServicerContext, send: Send) -> None:
        key = object()
        with self._lock:
            self._watchers[key] = send
        if not context.add_callback(lambda: self._forget(key)):
            self._forget(key)
            return
        send(
            messages.HealthCheckResponse(
                status=_SERVING if service in SERVICES else _SERVICE_UNKNOWN
            )
        )

    def _forget(self, key: object) -> None:
        with self._lock:
            self._watchers.pop(key, None)
