"""The REST door: /v1/models/... as a bare ASGI callable, because a web framework's path costs more
than the check.

A JSON call is checked with the shared codec and its body forwarded as it came, under a request head
of our own; one that brings or wants tensors as bytes goes over gRPC, and so does a big one.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway import check, errors, routes
from gateway.bodies import binary, media
from gateway.bodies import body as bodies
from gateway.bodies.body import Incoming
from gateway.bodies.media import Media
from gateway.check import VERSION_HEADER
from gateway.contracts import schema
from gateway.contracts.catalog import Catalog, Contract
from gateway.core import Core
from gateway.disconnect import cancel_on_disconnect
from gateway.routes import Kind, Route
from gateway.upstream.base import NOT_SERVED, Reply
from headrace.http import body as http_body
from headrace.http import request_id
from headrace.http.access_log import UNKNOWN, RequestInfo
from headrace.http.body import Disconnected, Message, Receive
from headrace.protocol import messages
from headrace.protocol.errors import HeadraceError, Internal, InvalidArgument, NotFound, Unavailable
from headrace.protocol.model_spec import ModelSpec

log = logging.getLogger("gateway")

Scope = Mapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

# Of model_spec, which comes first in metadata.
_TOLD_VERSION = re.compile(rb'"version": *"(\d+)"')
_JSON = "application/json"
_CLOSE = (b"connection", b"close")
_RETRY_AFTER = (errors.RETRY_AFTER[0].encode(), errors.RETRY_AFTER[1].encode())
_SIGNATURE = b"headrace-signature"


@dataclass(slots=True, kw_only=True)
class Call(RequestInfo):
    """One request on its way through; what is learnt about it ends in the log and the metrics."""

    scope: Scope
    method: str
    path: bytes
    headers: Mapping[bytes, bytes]
    receive: Incoming
    request_id: str


class RestDoor:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._settings = core.settings
        self._max_depth = core.settings.max_json_depth
        self._most_by_rest = core.settings.rest_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = dict(scope["headers"])
        call = Call(
            scope=scope,
            method=scope["method"],
            path=scope.get("raw_path") or scope["path"].encode(),
            headers=headers,
            receive=Incoming(receive),
            request_id=request_id.accept(headers.get(b"x-request-id")),
        )
        extra: list[tuple[bytes, bytes]] = []
        self._core.metrics.began()
        try:
            reply = await self._answer(call, scope["query_string"])
        except Disconnected:
            reply = None
        except HeadraceError as e:
            if isinstance(e, errors.MethodNotAllowed):
                extra.append((b"allow", e.allowed.encode()))
            if e.http_status in (405, 408, 413) or (
                e.http_status == 415 and not call.receive.ended
            ):
                extra.append(_CLOSE)
            reply = _refusal(call, e)
        except Exception:
            log.exception(
                "a request failed inside the gateway", extra={"request_id": call.request_id}
            )
            reply = _refusal(call, Internal("the gateway failed on this request; its log says why"))
        finally:
            self._core.metrics.ended()
        if reply is not None:
            await self._send(call, reply, send, extra=extra)
        self._record(
            call,
            499 if reply is None else reply.status,
            0 if reply is None else len(reply.body),
            started,
        )

    # What only chooses who answers returns the awaitable: each coroutine in between costs a
    # microsecond.

    def _answer(self, call: Call, query: bytes) -> Awaitable[Reply]:
        if query:
            raise InvalidArgument("a query string is not part of this API")
        route = routes.find(call.path)
        if call.method != route.kind.method:
            raise errors.MethodNotAllowed(call.method, route.kind.method)
        if route.kind.method == "POST":
            return self._infer(call, route)
        if route.kind is Kind.SCHEMA:
            return self._schema(call, route.target)
        return self._about(call, route)

    async def _infer(self, call: Call, route: Route) -> Reply:
        s = self._settings
        sent, wanted = media.of_request(call.headers), media.of_answer(call.headers)
        is_gzip = b"content-encoding" in call.headers and bodies.is_gzip(call.headers)
        body = await http_body.read(
            call.receive,
            call.headers,
            limit=s.max_body_bytes,
            setting=bodies.LIMIT,
            timeout_s=s.body_s,
        )
        if is_gzip:
            body = await bodies.inflate(body, limit=s.max_body_bytes)
        call.request_bytes = len(body)
        deadline = time.monotonic() + s.timeout_s
        work: Awaitable[Reply]
        if route.kind is not Kind.PREDICT:
            work = self._examples(call, route, body, deadline)
        elif sent is Media.JSON and wanted is Media.JSON and len(body) <= self._most_by_rest:
            work = self._predict(call, route.target, body, deadline)
        else:
            work = self._tensors(call, route.target, body, deadline, sent=sent, wanted=wanted)
        reply = await cancel_on_disconnect(work, call.scope, call.receive, body_bytes=len(body))
        return reply if reply.status < 400 else _explained(call, reply)

    def _predict(
        self, call: Call, target: ModelSpec, body: bytes, deadline: float
    ) -> Awaitable[Reply]:
        def admit(catalog: Catalog) -> Contract:
            try:
                return check.predict_body(
                    catalog, target, body, call, max_depth=self._max_depth
                ).contract
            except InvalidArgument as refusal:
                media.explain(body, Media.JSON, refusal)
                raise

        def send(contract: Contract) -> Awaitable[Reply]:
            return self._forward(call, contract.predict_path, body, deadline)

        # A big body is checked in a thread, so that the calls beside it go on.
        return self._core.predict(target, check=admit, send=send, threaded=self._is_big(body))

    def _examples(self, call: Call, route: Route, body: bytes, deadline: float) -> Awaitable[Reply]:
        verb = route.kind.value

        def admit(catalog: Catalog) -> Contract:
            return check.examples_body(
                catalog, route.target, verb, body, call, max_depth=self._max_depth
            )

        def send(contract: Contract) -> Awaitable[Reply]:
            return self._forward(call, contract.path(verb), body, deadline)

        return self._core.predict(route.target, check=admit, send=send, threaded=self._is_big(body))

    async def _tensors(
        self,
        call: Call,
        target: ModelSpec,
        body: bytes,
        deadline: float,
        *,
        sent: Media,
        wanted: Media,
    ) -> Reply:
        limit = self._settings.max_body_bytes
        name = call.headers.get(_SIGNATURE, b"").decode("utf-8", "replace")
        threaded = sent in (Media.JSON, Media.NPZ) and self._is_big(body)

        def admit(catalog: Catalog) -> binary.Call:
            try:
                return binary.admit(
                    *(catalog, target, body, call),
                    sent=sent,
                    wanted=wanted,
                    signature=name,
                    limit=limit,
                    max_depth=self._max_depth,
                )
            except InvalidArgument as refusal:
                media.explain(body, sent, refusal)
                raise

        async def send(admitted: binary.Call) -> Reply:
            left = max(deadline - time.monotonic(), 0.001)
            try:
                reply = await self._core.grpc.call(
                    messages.PREDICT.path,
                    admitted.request,
                    timeout_s=left,
                    request_id=call.request_id,
                )
            except HeadraceError as e:
                e.message = errors.without_graph(e.message)
                raise
            work = partial(binary.answer, admitted, reply, wanted)
            return Reply(
                200, wanted.value, await asyncio.to_thread(work) if self._is_big(reply) else work()
            )

        return await self._core.predict(target, check=admit, send=send, threaded=threaded)

    async def _forward(self, call: Call, path: str, body: bytes, deadline: float) -> Reply:
        left = max(deadline - time.monotonic(), 0.001)
        reply = await self._core.rest.send(
            "POST", path, body, timeout_s=left, request_id=call.request_id
        )
        if reply.status == 404 and NOT_SERVED.encode() in reply.body:
            raise NotFound(errors.backend_text(reply.body))
        if reply.status == 200 and not (reply.body[:1] == b"{" and reply.body[-1:] == b"}"):
            raise Unavailable("the serving backend's answer is not a JSON object")
        return reply

    def _is_big(self, body: bytes) -> bool:
        return 0 <= self._settings.thread_body_bytes < len(body)

    async def _about(self, call: Call, route: Route) -> Reply:
        """Status and metadata: the backend's answer as it is, for models that are configured."""
        name = call.model = await self._known(route.target.name)
        timeout_s = self._settings.timeout_s
        reply = await self._core.rest.send(
            "GET", route.path, None, timeout_s=timeout_s, request_id=call.request_id
        )
        if route.kind is Kind.METADATA and (told := _TOLD_VERSION.search(reply.body)):
            call.version = told[1].decode()
            await self._core.told(name, int(told[1]))
        if reply.status < 400:
            return reply
        if reply.status in (400, 404):
            self._core.catalog.refuse_unknown(route.target)
        return _explained(call, reply)

    async def _schema(self, call: Call, target: ModelSpec) -> Reply:
        call.model = await self._known(target.name)
        contract = self._core.catalog.resolve(target)
        call.version = str(contract.version)
        return Reply(200, _JSON, schema.document(contract))

    async def _known(self, name: str) -> str:
        if name not in self._core.catalog.models:
            await self._core.registry.missed(name)
        return self._core.catalog.model(name).name

    async def _send(
        self, call: Call, reply: Reply, send: Send, *, extra: list[tuple[bytes, bytes]]
    ) -> None:
        headers = [
            (b"content-type", reply.content_type.encode("latin-1")),
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", call.request_id.encode("ascii")),
            *extra,
        ]
        if call.version != UNKNOWN:
            headers.append((VERSION_HEADER.encode(), call.version.encode()))
        if reply.status == 503:
            headers.append(_RETRY_AFTER)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        # Refused before the body was read.
        if _CLOSE in extra:
            await send({"type": "http.response.body", "body": reply.body, "more_body": True})
            await bodies.discard(call.headers, call.receive)
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": reply.body})

    def _record(self, call: Call, status: int, sent: int, started: float) -> None:
        seconds = time.perf_counter() - started
        metrics, access_log = self._core.metrics, self._core.access_log
        if metrics.enabled:
            metrics.answered(
                "rest", call.model, call.version, call.signature, str(status), seconds=seconds
            )
        access_log.write(
            call,
            request_id=call.request_id,
            protocol="rest",
            method=call.method,
            path=call.path.decode("latin-1"),
            status=status,
            seconds=seconds,
            response_bytes=sent,
        )


def _refusal(call: Call, error: HeadraceError) -> Reply:
    accept = call.headers.get(b"accept", b"")
    content_type, body = errors.answer(error, accept=accept, request_id=call.request_id)
    return Reply(error.http_status, content_type, body)


def _explained(call: Call, reply: Reply) -> Reply:
    """A backend's error in our clothes: its status, its sentence, no names of graph nodes."""
    told = HeadraceError(errors.backend_text(reply.body))
    accept = call.headers.get(b"accept", b"")
    content_type, body = errors.answer(
        told, accept=accept, request_id=call.request_id, status=reply.status
    )
    return Reply(reply.status, content_type, body)
