"""The two seams to the serving backend, REST and gRPC, raw bytes in and out; and gRPC's channel
behind one of them."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import grpc
import grpc.aio

from gateway.errors import BackendDown
from headrace.protocol.errors import DeadlineExceeded, HeadraceError, Unavailable, from_grpc_code


class Reply(NamedTuple):
    status: int
    content_type: str
    body: bytes


# The backend's words for a version it lacks; a graph's own NOT_FOUND has run.
NOT_SERVED = "Servable not found"


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
                # A backend that is back must be seen within a second, not after gRPC's two minutes
                # of backoff.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 250),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._calls: dict[str, Any] = {}

    async def call(
        self, path: str, request: bytes, *, timeout_s: float, request_id: str = ""
    ) -> bytes:
        stub = self._calls.get(path)
        if stub is None:
            stub = self._calls[path] = self._channel.unary_unary(path)
        try:
            answer: bytes = await stub(
                request,
                timeout=timeout_s,
                metadata=(("x-request-id", request_id),) if request_id else None,
            )
            return answer
        except grpc.aio.AioRpcError as e:
            raise self._translated(e, timeout_s) from e

    async def close(self) -> None:
        await self._channel.close()

    def _translated(self, e: Any, timeout_s: float) -> HeadraceError:
        code, text = e.code(), e.details() or ""
        if code is grpc.StatusCode.UNAVAILABLE and _not_connected(text):
            return BackendDown(f"the serving backend at {self._target} cannot be reached")
        if code is grpc.StatusCode.UNAVAILABLE and _cut_off(text):
            return CutOff(
                "the serving backend closed the connection before its answer was complete"
            )
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and text in ("", "Deadline Exceeded"):
            return DeadlineExceeded(f"the serving backend did not answer within {timeout_s:.3g} s")
        return from_grpc_code(int(code.value[0]), text)


def _not_connected(text: str) -> bool:
    # gRPC core's own words; a backend's UNAVAILABLE carries the backend's words.
    return text.startswith(
        ("failed to connect", "connections to all backends failing", "DNS resolution failed")
    )


def _cut_off(text: str) -> bool:
    return text.startswith(
        ("Socket closed", "Connection reset", "recvmsg:", "GOAWAY", "Stream removed")
    )
