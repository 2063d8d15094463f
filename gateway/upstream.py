"""The way to the serving backend: REST over pooled keep-alive connections, gRPC over one channel; raw bytes in and out.

Doors know only the two small protocols here. Foreign errors are translated in this file alone.
"""

from __future__ import annotations

import asyncio
import io
from typing import Any, NamedTuple, Protocol

import aiohttp
import grpc
import grpc.aio
import yarl

from gateway.errors import BackendDown
from headrace.wire.errors import DeadlineExceeded, HeadraceError, Unavailable, from_grpc_code

_IDLE_S = 4.0  # below the 5 s after which common servers hang up, so that a call never meets a closing connection

_ONE_GO_BYTES = 2**20


class Reply(NamedTuple):
    status: int
    content_type: str
    body: bytes


class RestUpstream(Protocol):
    async def send(
        self, method: str, path: str, body: bytes | None, *, timeout_s: float, request_id: str = ""
    ) -> Reply: ...

    async def close(self) -> None: ...


class GrpcUpstream(Protocol):
    async def call(self, path: str, request: bytes, *, timeout_s: float, request_id: str = "") -> bytes: ...

    async def close(self) -> None: ...


class AiohttpUpstream:
    """aiohttp's client, what it might add of its own switched off; our request head, nothing of the caller's."""

    def __init__(self, base_url: str, *, connections: int, connect_timeout_s: float) -> None:
        self._base = base_url.rstrip("/")
        self._urls: dict[str, yarl.URL] = {}
        self._connect_timeout_s = connect_timeout_s
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=_IDLE_S, ttl_dns_cache=10),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )

    async def send(
        self, method: str, path: str, body: bytes | None, *, timeout_s: float, request_id: str = ""
    ) -> Reply:
        headers = {"X-Request-Id": request_id} if request_id else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with asyncio.timeout(timeout_s):
                async with self._session.request(
                    method, self._url(path), data=_payload(body), headers=headers, allow_redirects=False
                ) as answer:
                    content = await answer.read()
                    return Reply(answer.status, answer.headers.get("Content-Type", "application/json"), content)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as e:
            raise BackendDown(f"the serving backend at {self._base} cannot be reached: {_cause(e)}") from e
        except TimeoutError as e:
            raise DeadlineExceeded(f"the serving backend did not answer within {timeout_s:.3g} s") from e
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as e:
            raise Unavailable("the serving backend closed the connection before its answer was complete") from e
        except aiohttp.ClientError as e:
            raise Unavailable("the serving backend's answer is not valid HTTP") from e

    async def close(self) -> None:
        await self._session.close()

    def _url(self, path: str) -> yarl.URL:
        # Parsing a URL costs as much as sending it; the paths are ours (model, version, verb), so they are few.
        url = self._urls.get(path)
        if url is None:
            if len(self._urls) >= 4096:
                self._urls.clear()
            url = self._urls[path] = yarl.URL(self._base + path, encoded=True)
        return url


class GrpcChannel:
    """One HTTP/2 channel; requests and answers stay bytes."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._channel = grpc.aio.insecure_channel(
            target,
            options=[
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", -1),
                # A backend that is back must be seen within a second, not after gRPC's two minutes of backoff.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 250),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._calls: dict[str, Any] = {}

    async def call(self, path: str, request: bytes, *, timeout_s: float, request_id: str = "") -> bytes:
        stub = self._calls.get(path)
        if stub is None:
            stub = self._calls[path] = self._channel.unary_unary(path)
        try:
            answer: bytes = await stub(
                request, timeout=timeout_s, metadata=(("x-request-id", request_id),) if request_id else None
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
            return Unavailable("the serving backend closed the connection before its answer was complete")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and text in ("", "Deadline Exceeded"):
            return DeadlineExceeded(f"the serving backend did not answer within {timeout_s:.3g} s")
        return from_grpc_code(int(code.value[0]), text)


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    # aiohttp writes bytes in one go and warns about it above a megabyte; a BytesIO it writes in pieces.
    return body if body is None or len(body) <= _ONE_GO_BYTES else io.BytesIO(body)


def _cause(e: BaseException) -> str:
    inner = getattr(e, "os_error", None)
    text = getattr(inner, "strerror", None) or ("no connection in time" if isinstance(e, TimeoutError) else str(e))
    return str(text).lower()


def _not_connected(text: str) -> bool:
    # gRPC core's own words; a backend's UNAVAILABLE carries the backend's words.
    return text.startswith(("failed to connect", "connections to all backends failing", "DNS resolution failed"))


def _cut_off(text: str) -> bool:
    return text.startswith(("Socket closed", "Connection reset", "recvmsg:", "GOAWAY", "Stream removed"))
