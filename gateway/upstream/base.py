"""How the gateway reaches a serving backend, over REST or gRPC: raw bytes in and out.

Whoever forwards calls knows these two protocols only, so tests bring a backend in memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import grpc
import grpc.aio

from gateway.errors import BackendDown
from headrace.protocol.errors import DeadlineExceeded, HeadraceError, Unavailable, from_grpc_code

# The backend's words for a version it lacks; a graph's own NOT_FOUND has run.
NOT_SERVED = "Servable not found"

# gRPC core's own words; an error that came from the backend has the backend's.
_NOT_CONNECTED = (
    "failed to connect",
    "connections to all backends failing",
    "DNS resolution failed",
)
_CUT_OFF = ("Socket closed", "Connection reset", "recvmsg:", "GOAWAY", "Stream removed")
_GRPC_DEADLINE = ("", "Deadline Exceeded")


class Reply(NamedTuple):
    status: int
    content_type: str
    body: bytes


class CutOff(Unavailable):
    """Something was sent, and no whole answer came: the call may have run."""


class RestUpstream(Protocol):
    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        timeout_s: float,
        request_id: str = "",
        content_type: str = "application/json",
    ) -> Reply: ...

    async def close(self) -> None: ...


class GrpcUpstream(Protocol):
    async def call(
        self, path: str, request: bytes, *, timeout_s: float, request_id: str = ""
    ) -> bytes: ...

    async def close(self) -> None: ...


class GrpcChannel:
    """One HTTP/2 channel; requests and answers stay bytes."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._channel = grpc.aio.insecure_channel(
            target,
            options=[
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", -1),
                # A backend that is back must be seen within a second; gRPC's own backoff goes up to
                # two minutes.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 250),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._stubs: dict[str, Any] = {}

    async def call(
        self, path: str, request: bytes, *, timeout_s: float, request_id: str = ""
    ) -> bytes:
        stub = self._stubs.get(path)
        if stub is None:
            stub = self._stubs[path] = self._channel.unary_unary(path)
        metadata = (("x-request-id", request_id),) if request_id else None
        try:
            reply: bytes = await stub(request, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise self._translated(error, timeout_s) from error
        return reply

    async def close(self) -> None:
        await self._channel.close()

    def _translated(self, error: Any, timeout_s: float) -> HeadraceError:
        code, text = error.code(), error.details() or ""
        if code is grpc.StatusCode.UNAVAILABLE:
            if text.startswith(_NOT_CONNECTED):
                return BackendDown(f"the serving backend at {self._target} cannot be reached")
            if text.startswith(_CUT_OFF):
                return CutOff(
                    "the serving backend closed the connection before its answer was complete"
                )
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and text in _GRPC_DEADLINE:
            return DeadlineExceeded(f"the serving backend did not answer within {timeout_s:.3g} s")
        return from_grpc_code(int(code.value[0]), text)
