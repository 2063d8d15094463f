"""The REST door: /v1/models/... as a bare ASGI callable, because a web framework's path costs more
than the check."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway import errors, routes
from gateway.bodies import body as bodies
from gateway.bodies import media
from gateway.bodies.body import Incoming
from gateway.bodies.media import Media
from gateway.calls.call import Call
from gateway.calls.rest_calls import ExamplesCall, PredictCall, TensorCall
from gateway.check import VERSION_HEADER
from gateway.contracts import schema
from gateway.core import Core
from gateway.disconnect import cancel_on_disconnect
from gateway.routes import Kind, Route
from gateway.upstream.base import Reply
from headrace.http import body as http_body
from headrace.http import request_id as request_ids
from headrace.http.access_log import UNKNOWN, RequestInfo
from headrace.http.body import Disconnected, Message, Receive
from headrace.protocol.errors import HeadraceError, Internal, InvalidArgument

log = logging.getLogger("gateway")

Scope = Mapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# Of model_spec, which comes first in metadata.
_METADATA_VERSION = re.compile(rb'"version": *"(\d+)"')
_JSON = "application/json"
_CLOSE = (b"connection", b"close")
_RETRY_AFTER = (errors.RETRY_AFTER[0].encode(), errors.RETRY_AFTER[1].encode())
_SIGNATURE_HEADER = b"headrace-signature"
_VERSION_HEADER = VERSION_HEADER.encode()
# The caller is told to close: what it still sends of its body would be read as a next request.
_CLOSING_STATUSES = (405, 408, 413)
_CLIENT_CLOSED_REQUEST = 499


@dataclass(slots=True, kw_only=True)
class Request(RequestInfo):
    scope: Scope
    method: str
    path: bytes
    headers: Mapping[bytes, bytes]
    receive: Incoming


class RestDoor:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._settings = core.settings
        self._rest_body_bytes = core.settings.rest_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_at = time.perf_counter()
        headers = dict(scope["headers"])
        request = Request(
            scope=scope,
            method=scope["method"],
            path=scope.get("raw_path") or scope["path"].encode(),
            headers=headers,
            receive=Incoming(receive),
            request_id=request_ids.accept(headers.get(b"x-request-id")),
        )
        error_headers: Headers = []
        self._core.metrics.began()
        try:
            reply = await self._answer(request)
        except Disconnected:
            self._record(request, _CLIENT_CLOSED_REQUEST, 0, started_at)
            return
        except HeadraceError as error:
            error_headers = _error_headers(request, error)
            reply = _error_reply(request, error, error.http_status)
        except Exception:
            fields = {"request_id": request.request_id}
            log.exception("a request failed inside the gateway", extra=fields)
            failure = Internal("the gateway failed on this request; its log says why")
            reply = _error_reply(request, failure, failure.http_status)
        finally:
            self._core.metrics.ended()
        await self._send(request, reply, send, error_headers)
        self._record(request, reply.status, len(reply.body), started_at)

    # What only chooses who answers is no coroutine: each one in between costs a microsecond.

    def _answer(self, request: Request) -> Awaitable[Reply]:
        if request.scope["query_string"]:
            raise InvalidArgument("a query string is not part of this API")
        route = routes.find(request.path)
        method = route.kind.method
        if request.method != method:
            raise errors.MethodNotAllowed(request.method, method)
        if method == "POST":
            return self._infer(request, route)
        if route.kind is Kind.SCHEMA:
            return self._schema(request, route)
        return self._describe(request, route)

    async def _infer(self, request: Request, route: Route) -> Reply:
        s = self._settings
        body_media = media.of_request(request.headers)
        answer_media = media.of_answer(request.headers)
        is_gzip = b"content-encoding" in request.headers and bodies.is_gzip(request.headers)
        body = await http_body.read(
            request.receive,
            request.headers,
            limit=s.max_body_bytes,
            setting=bodies.LIMIT,
            timeout_s=s.body_s,
        )
        if is_gzip:
            body = await bodies.inflate(body, limit=s.max_body_bytes)
        request.request_bytes = len(body)
        call = self._call(request, route, body, body_media, answer_media)
        reply = await cancel_on_disconnect(
            self._core.run(call), request.scope, request.receive, body_bytes=len(body)
        )
        if reply.status < 400:
            return reply
        return _backend_error(request, reply)

    def _call(
        self, request: Request, route: Route, body: bytes, body_media: Media, answer_media: Media
    ) -> Call[Reply]:
        s = self._settings
        deadline = time.monotonic() + s.timeout_s
        is_big = 0 <= s.thread_body_bytes < len(body)
        if route.kind is not Kind.PREDICT:
            return ExamplesCall(
                spec=route.target,
                verb=route.kind.value,
                body=body,
                info=request,
                deadline=deadline,
                is_big=is_big,
                settings=s,
                upstream=self._core.rest,
            )
        if body_media is answer_media is Media.JSON and len(body) <= self._rest_body_bytes:
            return PredictCall(
                spec=route.target,
                body=body,
                info=request,
                deadline=deadline,
                is_big=is_big,
                settings=s,
                upstream=self._core.rest,
            )
        return TensorCall(
            spec=route.target,
            body=body,
            body_media=body_media,
            answer_media=answer_media,
            signature_name=_signature_name(request),
            info=request,
            deadline=deadline,
            # Of JSON and npz each value is looked at; npy and pictures are taken as they are.
            is_big=is_big and body_media in (Media.JSON, Media.NPZ),
            settings=s,
            upstream=self._core.grpc,
        )

    async def _describe(self, request: Request, route: Route) -> Reply:
        """Status and metadata: the backend's answer as it is, for models that are configured."""
        request.model = await self._known_model(route.target.name)
        reply = await self._core.rest.send(
            "GET",
            route.path,
            None,
            timeout_s=self._settings.timeout_s,
            request_id=request.request_id,
        )
        if route.kind is Kind.METADATA:
            version = _METADATA_VERSION.search(reply.body)
            if version is not None:
                request.version = version[1].decode()
                await self._core.know_version(request.model, int(version[1]))
        if reply.status < 400:
            return reply
        if reply.status in (400, 404):
            self._core.catalog.raise_if_unknown(route.target)
        return _backend_error(request, reply)

    async def _schema(self, request: Request, route: Route) -> Reply:
        request.model = await self._known_model(route.target.name)
        contract = self._core.catalog.resolve(route.target)
        request.version = str(contract.version)
        return Reply(200, _JSON, schema.document(contract))

    async def _known_model(self, name: str) -> str:
        if name not in self._core.catalog.models:
            await self._core.registry.look_up(name)
        return self._core.catalog.model(name).name

    async def _send(
        self, request: Request, reply: Reply, send: Send, error_headers: Headers
    ) -> None:
        content_type = reply.content_type.encode("latin-1")
        headers = [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", request.request_id.encode("ascii")),
            *error_headers,
        ]
        if request.version != UNKNOWN:
            headers.append((_VERSION_HEADER, request.version.encode()))
        if reply.status == 503:
            headers.append(_RETRY_AFTER)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if _CLOSE in error_headers:
            # The body was not read to its end. Its caller may read no answer before it is sent.
            await send({"type": "http.response.body", "body": reply.body, "more_body": True})
            await bodies.discard(request.headers, request.receive)
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": reply.body})

    def _record(self, request: Request, status: int, bytes_out: int, started_at: float) -> None:
        seconds = time.perf_counter() - started_at
        metrics, access_log = self._core.metrics, self._core.access_log
        if metrics.enabled:
            metrics.answered(
                "rest",
                request.model,
                request.version,
                request.signature,
                str(status),
                seconds=seconds,
            )
        access_log.write(
            request,
            request_id=request.request_id,
            protocol="rest",
            method=request.method,
            path=request.path.decode("latin-1"),
            status=status,
            seconds=seconds,
            response_bytes=bytes_out,
        )


def _signature_name(request: Request) -> str:
    """Only a JSON body can name its signature; for others there is a header."""
    return request.headers.get(_SIGNATURE_HEADER, b"").decode("utf-8", "replace")


def _error_headers(request: Request, error: HeadraceError) -> Headers:
    headers: Headers = []
    if isinstance(error, errors.MethodNotAllowed):
        headers.append((b"allow", error.allowed.encode()))
    is_unread = error.http_status == 415 and not request.receive.ended
    if error.http_status in _CLOSING_STATUSES or is_unread:
        headers.append(_CLOSE)
    return headers


def _error_reply(request: Request, error: HeadraceError, status: int) -> Reply:
    accept = request.headers.get(b"accept", b"")
    content_type, body = errors.answer(
        error, accept=accept, request_id=request.request_id, status=status
    )
    return Reply(status, content_type, body)


def _backend_error(request: Request, reply: Reply) -> Reply:
    """A backend's error as ours look: its status and its sentence, without names of graph nodes."""
    error = HeadraceError(errors.backend_text(reply.body))
    return _error_reply(request, error, reply.status)
