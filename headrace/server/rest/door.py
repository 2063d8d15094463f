"""The REST door: a bare ASGI app that answers requests as TensorFlow Serving does."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from headrace.codec import answers
from headrace.codec.json.rapidjson import ANY_DEPTH
from headrace.http import body
from headrace.http import request_id as request_ids
from headrace.http.access_log import AccessLog, RequestInfo
from headrace.http.body import Disconnected, Receive
from headrace.http.protocol import TARGET
from headrace.protocol import signatures
from headrace.protocol.errors import BodyTooLarge, HeadraceError, InvalidArgument
from headrace.protocol.model_spec import ModelSpec
from headrace.server.core import Core
from headrace.server.lifecycle.repository import ModelStatus
from headrace.server.metrics import Metrics
from headrace.server.rest import calls, routes
from headrace.server.rest.response import EMPTY, JSON, Response, page, refusal
from headrace.server.rest.routes import Kind, Route
from headrace.server.runner import Runner, blocking

log = logging.getLogger(__name__)

# Extensions of the scope: functions that tell whether the caller has left, and whether no other
# connection could send a call to run together with this one.
GONE = "headrace.gone"
ALONE = "headrace.alone"

# A body that is read and answered in the event loop; a larger one would keep other calls waiting.
_SMALL_BYTES = 32 << 10
# Looking up an enum's member is slow.
_PREDICT = Kind.PREDICT
_INFERENCES = (Kind.PREDICT, Kind.CLASSIFY, Kind.REGRESS)
_TOO_LARGE = int(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
_VERSIONS = ("1.1", "1.0")
_JSON_BYTES = JSON.encode()
_CONTINUE = b"100-continue"
_REQUEST_ID = request_ids.HEADER.encode()
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
)

Scope = Mapping[str, Any]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class RestDoor:
    """``timeout_s`` 0 = none. ``metrics_path`` None = metrics are not shown."""

    def __init__(
        self,
        core: Core,
        runner: Runner,
        *,
        timeout_s: float,
        max_body_bytes: int,
        max_inflated_bytes: int = 100 << 20,
        max_depth: int = ANY_DEPTH,
        cors: bool = False,
        metrics: Metrics | None = None,
        metrics_path: str | None = None,
        access: AccessLog | None = None,
    ) -> None:
        self._core = core
        self._runner = runner
        self._timeout_s = timeout_s
        self._max_body_bytes = max_body_bytes
        self._max_inflated_bytes = max_inflated_bytes
        self._max_depth = max_depth
        self._cors = cors
        self._metrics = metrics or Metrics()
        self._metrics_path = metrics_path.encode() if metrics_path is not None else None
        self._access = access or AccessLog("off")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        target: bytes = scope.get(TARGET) or _target(scope)
        info = RequestInfo()
        try:
            response = await self._respond(scope, target, receive, info)
        except Disconnected:
            return
        is_json = response.content_type is JSON
        content_type = _JSON_BYTES if is_json else response.content_type.encode()
        headers = [
            (b"content-type", content_type),
            (b"content-length", str(len(response.body)).encode()),
        ]
        if response.closes:
            headers.append((b"connection", b"close"))
        if self._cors and response.is_api:
            headers.extend(_CORS)
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if response.status == _TOO_LARGE and not _header(scope, b"expect"):
            # The answer goes out at once, but the connection stays open for a while: a client that
            # still sends would be cut off from its answer.
            await send({"type": "http.response.body", "body": response.body, "more_body": True})
            await body.discard(receive)
            await send({"type": "http.response.body"})
        else:
            await send({"type": "http.response.body", "body": response.body})
        # Probes ask for states, signatures and metrics all day; all of GET is of that kind.
        is_probe = scope["method"] == "GET" and response.status == 200
        if self._access.enabled and not is_probe:
            self._access.write(
                info,
                request_id=_header(scope, _REQUEST_ID).decode("latin-1"),
                protocol="rest",
                method=scope["method"],
                path=target.decode("latin-1"),
                status=response.status,
                seconds=time.perf_counter() - started,
                response_bytes=len(response.body),
            )

    async def _respond(
        self, scope: Scope, target: bytes, receive: Receive, info: RequestInfo
    ) -> Response:
        """Every error becomes a response, but that the caller has gone."""
        if scope["http_version"] not in _VERSIONS:
            return page(HTTPStatus.BAD_REQUEST)
        metrics_path = self._metrics_path
        if metrics_path is not None and target.partition(b"?")[0] == metrics_path:
            return self._metrics_page(target, metrics_path)
        route = routes.find(scope["method"], target)
        kind = route.kind
        unrouted = None if kind is _PREDICT else _unrouted(kind, scope)
        if unrouted is not None:
            return unrouted
        if route.spec.name:
            info.model = route.spec.name
        started = time.perf_counter()
        outcome = "UNKNOWN"
        try:
            if kind is _PREDICT:
                response = await self._infer(scope, route, receive, info)
                api = "predict"
            else:
                response = await self._answer(scope, target, route, receive, info)
                api = kind.value if kind in _INFERENCES else ""
            outcome = "OK"
            self._metrics.answered(route.spec.name, api, "REST", time.perf_counter() - started)
            return response
        except Disconnected:
            outcome = "CANCELLED"
            raise
        except HeadraceError as error:
            outcome = error.status_name
            return _error(error, kind)
        except Exception:
            outcome = "INTERNAL"
            return _internal_error(scope, target)
        finally:
            self._metrics.request(route.spec.name, outcome)

    async def _infer(
        self, scope: Scope, route: Route, receive: Receive, info: RequestInfo
    ) -> Response:
        deadline = time.monotonic() + self._timeout_s if self._timeout_s > 0 else None
        headers = dict(scope["headers"])
        if b"expect" in headers and headers[b"expect"].lower() != _CONTINUE:
            return page(HTTPStatus.EXPECTATION_FAILED)
        content = await body.read(
            receive, headers, limit=self._max_body_bytes, setting="rest_api_max_body_bytes"
        )
        info.request_bytes = len(content)
        is_gzip = b"gzip" in headers.get(b"content-encoding", b"")
        extensions = scope.get("extensions") or {}
        is_gone = extensions.get(GONE)
        if route.kind is _PREDICT and len(content) <= _SMALL_BYTES and not is_gzip:
            text = await calls.predict(
                self._core,
                route.spec,
                content,
                info,
                deadline=deadline,
                max_depth=self._max_depth,
                is_gone=is_gone,
                is_alone=extensions.get(ALONE),
            )
            return Response(200, text)

        def work() -> bytes:
            plain = self._inflated(content) if is_gzip else content
            return self._infer_in_thread(route, plain, info, deadline)

        text = await self._runner.call(work, deadline=deadline, is_gone=is_gone)
        return Response(200, text)

    def _inflated(self, content: bytes) -> bytes:
        """As in TensorFlow Serving, a body that cannot be inflated counts as empty."""
        try:
            return body.inflate(
                content, limit=self._max_inflated_bytes, setting="rest_api_max_inflated_bytes"
            )
        except InvalidArgument:
            return b""

    def _infer_in_thread(
        self, route: Route, content: bytes, info: RequestInfo, deadline: float | None
    ) -> bytes:
        core, spec, max_depth = self._core, route.spec, self._max_depth
        if route.kind is _PREDICT:
            call = calls.predict(
                core, spec, content, info, deadline=deadline, max_depth=max_depth, may_block=True
            )
            return blocking(call)
        return calls.infer(
            core, route.kind, spec, content, info, deadline=deadline, max_depth=max_depth
        )

    async def _answer(
        self, scope: Scope, target: bytes, route: Route, receive: Receive, info: RequestInfo
    ) -> Response:
        match route.kind:
            case Kind.CLASSIFY | Kind.REGRESS:
                return await self._infer(scope, route, receive, info)
            case Kind.STATUS:
                return self._status(route.spec)
            case Kind.METADATA:
                return self._metadata(route.spec)
            case Kind.LIST:
                return self._list()
            case Kind.NAMELESS:
                raise InvalidArgument("Missing model name in request.")
            case Kind.VERSION_TOO_LONG:
                raise InvalidArgument("Failed to convert version: the number does not fit 64 bits")
        raise InvalidArgument(f"Malformed request: {scope['method']} {target.decode('latin-1')}")

    def _metrics_page(self, target: bytes, metrics_path: bytes) -> Response:
        if target != metrics_path:
            text = b"Unexpected path: %b. Should be %b" % (target, metrics_path)
            return Response(400, text, "text/plain")
        return Response(200, self._metrics.page().encode(), "text/plain")

    def _status(self, spec: ModelSpec) -> Response:
        statuses = self._core.status(spec.name, spec.version)
        return Response(200, answers.status(statuses))

    def _metadata(self, spec: ModelSpec) -> Response:
        metadata = self._core.metadata(spec)
        text = answers.metadata(spec.name, metadata.version, metadata.signature_defs)
        return Response(200, text)

    def _list(self) -> Response:
        models = [self._listed(model) for model in self._core.models()]
        return Response(200, json.dumps({"models": models}, indent=4).encode())

    def _listed(self, model: ModelStatus) -> dict[str, Any]:
        versions = [
            {
                "version": status.version,
                "state": status.state.name,
                "reason": status.error_message,
                "batched": list(status.batched),
            }
            for status in model.versions
        ]
        callable_signatures = self._core.signatures(model.name, model.default_version)
        return {
            "name": model.name,
            "state": model.state,
            "default_version": model.default_version,
            "versions": versions,
            "labels": dict(model.labels),
            "reason": model.problem or "",
            "signatures": signatures.described(callable_signatures),
        }


def _unrouted(kind: Kind, scope: Scope) -> Response | None:
    """The response to a request that reaches no model; None for one that may."""
    match kind:
        case Kind.OPTIONS:
            return _options(scope)
        case Kind.NOT_FOUND:
            return page(HTTPStatus.NOT_FOUND)
        case Kind.BAD_TARGET:
            return page(HTTPStatus.BAD_REQUEST)
    return None


def _error(error: HeadraceError, kind: Kind) -> Response:
    response = refusal(error)._replace(closes=isinstance(error, BodyTooLarge))
    if kind is Kind.VERSION_TOO_LONG:
        # TensorFlow Serving gives up before it has a text.
        return response._replace(body=b"")
    return response


def _internal_error(scope: Scope, target: bytes) -> Response:
    """Called while the exception is handled, so that the log has its stack."""
    fields = {"method": scope["method"], "path": target.decode("latin-1")}
    log.exception("call failed", extra=fields)
    return Response(500, answers.error_body("internal error; the server's log has more"))


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


def _options(scope: Scope) -> Response:
    origin = dict(scope["headers"]).get(b"origin", b"")
    status = 200 if b"http://" in origin or b"https://" in origin else 400
    return Response(status, content_type=EMPTY)


def _target(scope: Scope) -> bytes:
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path
