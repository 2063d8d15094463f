"""The REST door: a bare ASGI app that reads requests and words answers as TensorFlow Serving
does."""

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
from headrace.server.metrics import Metrics
from headrace.server.rest import routes
from headrace.server.rest.calls import INFERENCES, predict_soon
from headrace.server.rest.response import EMPTY, JSON, Response, page, refusal
from headrace.server.rest.routes import Kind, Route
from headrace.server.runner import Runner

log = logging.getLogger(__name__)

# Extensions of the scope. What tells whether the caller has left.
GONE = "headrace.gone"
# And whether nobody else is connected, whose calls could run together with this one.
ALONE = "headrace.alone"

# A body read and answered in the event loop; a larger one would keep other calls waiting.
_SMALL_BYTES = 32 << 10
# An enum's member takes long to look up.
_PREDICT = Kind.PREDICT
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

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class RestDoor:
    """``timeout_s`` 0 = none. ``metrics_path`` is where the metrics are shown, "" = nowhere."""

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
        metrics_path: str = "",
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
        self._metrics_path = metrics_path.encode()
        self._access = access or AccessLog("off")

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        target: bytes = scope.get(TARGET) or _target(scope)
        started = time.perf_counter()
        info = RequestInfo()
        try:
            response = await self._answer(scope, target, receive, info)
        except Disconnected:
            return
        headers = [
            (
                b"content-type",
                _JSON_BYTES if response.content_type is JSON else response.content_type.encode(),
            ),
            (b"content-length", str(len(response.body)).encode()),
        ]
        if response.closes:
            headers.append((b"connection", b"close"))
        if self._cors and response.is_api:
            headers.extend(_CORS)
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if response.status == _TOO_LARGE and not _header(scope, b"expect"):
            # Told at once, but closed only after a while: a client that still sends would be cut
            # off from its answer.
            await send({"type": "http.response.body", "body": response.body, "more_body": True})
            await body.discard(receive)
            await send({"type": "http.response.body"})
        else:
            await send({"type": "http.response.body", "body": response.body})
        if self._access.enabled and not _is_question(scope["method"], response.status):
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

    async def _answer(
        self, scope: Mapping[str, Any], target: bytes, receive: Receive, info: RequestInfo
    ) -> Response:
        if scope["http_version"] not in _VERSIONS:
            return page(HTTPStatus.BAD_REQUEST)
        if self._metrics_path and target.partition(b"?")[0] == self._metrics_path:
            return self._metrics_page(target)
        route = routes.find(scope["method"], target)
        if route.kind is not _PREDICT:
            match route.kind:
                case Kind.OPTIONS:
                    return _options(scope)
                case Kind.NOT_FOUND:
                    return page(HTTPStatus.NOT_FOUND)
                case Kind.BAD_TARGET:
                    return page(HTTPStatus.BAD_REQUEST)
        if route.spec.name:
            info.model = route.spec.name
        started = time.perf_counter()
        outcome = "UNKNOWN"
        try:
            if route.kind is _PREDICT:
                response = await self._infer(scope, route, receive, info)
                api = "predict"
            else:
                response = await self._called(scope, target, route, receive, info)
                api = route.kind.value if route.kind in INFERENCES else ""
            outcome = "OK"
            self._metrics.answered(route.spec.name, api, "REST", time.perf_counter() - started)
        except Disconnected:
            outcome = "CANCELLED"
            raise
        except HeadraceError as error:
            outcome = error.status_name
            response = refusal(error)._replace(closes=isinstance(error, BodyTooLarge))
            if route.kind is Kind.VERSION_TOO_LONG:
                # TensorFlow Serving leaves before it words its errors.
                response = response._replace(body=b"")
        except Exception:
            outcome = "INTERNAL"
            log.exception(
                "call failed", extra={"method": scope["method"], "path": target.decode("latin-1")}
            )
            response = Response(
                500, answers.error_body("internal error; the server's log has more")
            )
        finally:
            self._metrics.request(route.spec.name, outcome)
        return response

    async def _called(
        self,
        scope: Mapping[str, Any],
        target: bytes,
        route: Route,
        receive: Receive,
        info: RequestInfo,
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

    async def _infer(
        self, scope: Mapping[str, Any], route: Route, receive: Receive, info: RequestInfo
    ) -> Response:
        deadline = time.monotonic() + self._timeout_s if self._timeout_s > 0 else None
        headers = dict(scope["headers"])
        if b"expect" in headers and headers[b"expect"].lower() != _CONTINUE:
            return page(HTTPStatus.EXPECTATION_FAILED)
        sent = await body.read(
            receive, headers, limit=self._max_body_bytes, setting="rest_api_max_body_bytes"
        )
        info.request_bytes = len(sent)
        is_gzip = b"gzip" in headers.get(b"content-encoding", b"")
        extensions = scope.get("extensions") or {}
        is_gone = extensions.get(GONE)
        if route.kind is _PREDICT and len(sent) <= _SMALL_BYTES and not is_gzip:
            text = await predict_soon(
                self._core,
                route.spec,
                sent,
                deadline,
                self._max_depth,
                info,
                is_gone=is_gone,
                is_alone=extensions.get(ALONE),
            )
            return Response(200, text)
        answer = INFERENCES[route.kind]

        def work() -> bytes:
            plain = self._inflated(sent) if is_gzip else sent
            return answer(self._core, route.spec, plain, deadline, self._max_depth, info)

        return Response(200, await self._runner.call(work, deadline=deadline, is_gone=is_gone))

    def _inflated(self, sent: bytes) -> bytes:
        """As in TensorFlow Serving, a body that cannot be inflated counts as empty."""
        limit = self._max_inflated_bytes
        try:
            return body.inflate(sent, limit=limit, setting="rest_api_max_inflated_bytes")
        except InvalidArgument:
            return b""

    def _metrics_page(self, target: bytes) -> Response:
        if target != self._metrics_path:
            text = b"Unexpected path: %b. Should be %b" % (target, self._metrics_path)
            return Response(400, text, "text/plain")
        return Response(200, self._metrics.page().encode(), "text/plain")

    def _status(self, spec: ModelSpec) -> Response:
        return Response(200, answers.status(self._core.status(spec.name, spec.version)))

    def _metadata(self, spec: ModelSpec) -> Response:
        found = self._core.metadata(spec)
        return Response(200, answers.metadata(spec.name, found.version, found.signature_defs))

    def _list(self) -> Response:
        models = [
            {
                "name": model.name,
                "state": model.state,
                "default_version": model.default_version,
                "versions": [
                    {
                        "version": v.version,
                        "state": v.state.name,
                        "reason": v.error_message,
                        "batched": list(v.batched),
                    }
                    for v in model.versions
                ],
                "labels": dict(model.labels),
                "reason": model.trouble,
                "signatures": signatures.described(
                    self._core.signatures(model.name, model.default_version)
                ),
            }
            for model in self._core.models()
        ]
        return Response(200, json.dumps({"models": models}, indent=4).encode())


def _is_question(method: str, status: int) -> bool:
    """Answered, about states, signatures or metrics: nothing else can be had by GET."""
    return method == "GET" and status == HTTPStatus.OK


def _header(scope: Mapping[str, Any], name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


def _options(scope: Mapping[str, Any]) -> Response:
    origin = dict(scope["headers"]).get(b"origin", b"")
    status = 200 if b"http://" in origin or b"https://" in origin else 400
    return Response(status, content_type=EMPTY)


def _target(scope: Mapping[str, Any]) -> bytes:
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path
