"""The REST door: a bare ASGI app that reads requests and words answers as TensorFlow Serving does."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, NamedTuple

from headrace.server import inference
from headrace.server.access import AccessLog
from headrace.server.core import Core, SignatureNotFound
from headrace.server.inference import Classes
from headrace.server.lifecycle.repository import ModelSpec
from headrace.server.metrics import Metrics
from headrace.server.rest import routes
from headrace.server.rest.routes import Kind, Route
from headrace.server.runner import Runner
from headrace.wire import faults, rest
from headrace.wire.bodies import answers, examples
from headrace.wire.errors import BodyTooLarge, HeadraceError, InvalidArgument
from headrace.wire.json.rapidjson import ANY_DEPTH
from headrace.wire.signatures import Signature

log = logging.getLogger(__name__)

TARGET = "headrace.target"  # where our HTTP protocol leaves the request target as it was sent
GONE = "headrace.gone"  # and what tells whether the caller has left
ALONE = (
    "headrace.alone"  # and what tells whether nobody else is connected, whose calls could run together with this one
)

_DISCARD_S = 10.0
_SMALL_BYTES = 32 << 10  # a body read and answered in the event loop; a larger one would keep other calls waiting
_VERSIONS = ("1.1", "1.0")
_JSON = "application/json"
_JSON_BYTES = _JSON.encode()
_EMPTY = "text/html; charset=ISO-8859-1"  # libevent's, where TF Serving says nothing
_CONTINUE = b"100-continue"
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
)

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class Response(NamedTuple):
    status: int
    body: bytes = b""
    content_type: str = _JSON
    closes: bool = False

    @property
    def is_api(self) -> bool:
        """Neither one of libevent's pages nor the metrics."""
        return self.content_type in (_JSON, _EMPTY)


class _CallerGone(Exception):
    """The connection ended before the request did: nobody is there to answer."""


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
        try:
            response = await self._answer(scope, target, receive)
        except _CallerGone:
            return
        headers = [
            (b"content-type", _JSON_BYTES if response.content_type is _JSON else response.content_type.encode()),
            (b"content-length", str(len(response.body)).encode()),
        ]
        if response.closes:
            headers.append((b"connection", b"close"))
        if self._cors and response.is_api:
            headers.extend(_CORS)
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if response.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and not _header(scope, b"expect"):
            # Told at once, but closed only after a while: a client that still sends would be cut off from its answer.
            await send({"type": "http.response.body", "body": response.body, "more_body": True})
            await _discard(receive)
            await send({"type": "http.response.body"})
        else:
            await send({"type": "http.response.body", "body": response.body})
        if self._access.enabled:
            request_id = _header(scope, b"x-request-id")
            self._access.rest(
                scope["method"], target, response.status, started, bytes_out=len(response.body), request_id=request_id
            )

    async def _answer(self, scope: Mapping[str, Any], target: bytes, receive: Receive) -> Response:
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
        started = time.perf_counter()
        outcome = "UNKNOWN"
        try:
            if route.kind is _PREDICT:
                response = await self._infer(scope, route, receive)
                api = "predict"
            else:
                response = await self._called(scope, target, route, receive)
                api = route.kind.value if route.kind in _INFERENCES else ""
            outcome = "OK"
            self._metrics.answered(route.spec.name, api, "REST", time.perf_counter() - started)
        except _CallerGone:
            outcome = "CANCELLED"
            raise
        except HeadraceError as error:
            outcome = error.status_name
            response = _refusal(error)._replace(closes=isinstance(error, BodyTooLarge))
            if route.kind is Kind.VERSION_TOO_LONG:
                response = response._replace(body=b"")  # TensorFlow Serving leaves before it words its errors
        except Exception:
            outcome = "INTERNAL"
            log.exception("call failed", extra={"method": scope["method"], "target": target.decode("latin-1")})
            response = Response(500, answers.error_body("internal error; the server's log has more"))
        finally:
            self._metrics.request(route.spec.name, outcome)
        return response

    async def _called(self, scope: Mapping[str, Any], target: bytes, route: Route, receive: Receive) -> Response:
        match route.kind:
            case Kind.CLASSIFY | Kind.REGRESS:
                return await self._infer(scope, route, receive)
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

    async def _infer(self, scope: Mapping[str, Any], route: Route, receive: Receive) -> Response:
        deadline = time.monotonic() + self._timeout_s if self._timeout_s > 0 else None
        headers = dict(scope["headers"])
        if b"expect" in headers and headers[b"expect"].lower() != _CONTINUE:
            return page(HTTPStatus.EXPECTATION_FAILED)
        body = await _body(receive, headers, self._max_body_bytes)
        is_gzip = b"gzip" in headers.get(b"content-encoding", b"")
        if route.kind is _PREDICT and len(body) <= _SMALL_BYTES and not is_gzip:
            return Response(200, await _predict_soon(self._core, route.spec, body, deadline, scope, self._max_depth))
        answer = _INFERENCES[route.kind]

        def work() -> bytes:
            plain = _inflate(body, self._max_inflated_bytes) if is_gzip else body
            return answer(self._core, route.spec, plain, deadline, self._max_depth)

        return Response(200, await self._runner.call(work, deadline=deadline, is_gone=scope.get(GONE)))

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
                "default_version": model.default_version,
                "versions": [
                    {"version": v.version, "state": v.state.name, "reason": v.error_message, "batched": list(v.batched)}
                    for v in model.versions
                ],
                "labels": dict(model.labels),
                "reason": model.trouble,
            }
            for model in self._core.models()
        ]
        return Response(200, json.dumps({"models": models}, indent=4).encode())


def _predict(core: Core, spec: ModelSpec, body: bytes, deadline: float | None, max_depth: int) -> bytes:
    parsed = rest.parse_predict(body, max_depth=max_depth)
    row_format = False

    def inputs(signature: Signature) -> Mapping[str, Any]:
        nonlocal row_format
        tensors = parsed.tensors(signature)
        row_format = tensors.row_format
        return tensors.arrays

    try:
        prediction = core.predict(replace(spec, signature_name=parsed.signature_name), inputs, deadline=deadline)
    except SignatureNotFound as error:
        raise InvalidArgument(f'Serving signature name: "{error.name}" not found in signature def') from error
    return answers.predictions(prediction.outputs, prediction.signature, row_format=row_format)


async def _predict_soon(
    core: Core, spec: ModelSpec, body: bytes, deadline: float | None, scope: Mapping[str, Any], max_depth: int
) -> bytes:
    parsed = [rest.parse_predict(body, max_depth=max_depth)]
    if parsed[0].signature_name:
        spec = replace(spec, signature_name=parsed[0].signature_name)
    row_format = False

    def inputs(signature: Signature) -> Mapping[str, Any]:
        nonlocal row_format
        tensors = parsed.pop().tensors(signature)  # while the call waits, others may have its parser
        row_format = tensors.row_format
        return tensors.arrays

    try:
        prediction = await core.predict_soon(
            spec, inputs, deadline=deadline, is_gone=scope.get(GONE), is_alone=scope.get(ALONE)
        )
    except SignatureNotFound as error:
        raise InvalidArgument(f'Serving signature name: "{error.name}" not found in signature def') from error
    return answers.predictions(prediction.outputs, prediction.signature, row_format=row_format)


def _classify(core: Core, spec: ModelSpec, body: bytes, deadline: float | None, max_depth: int) -> bytes:
    return _inferred(core, spec, inference.CLASSIFY, body, deadline, max_depth)


def _regress(core: Core, spec: ModelSpec, body: bytes, deadline: float | None, max_depth: int) -> bytes:
    return _inferred(core, spec, inference.REGRESS, body, deadline, max_depth)


def _inferred(core: Core, spec: ModelSpec, method: str, body: bytes, deadline: float | None, max_depth: int) -> bytes:
    parsed = examples.parse(body, max_depth=max_depth)
    spec = replace(spec, signature_name=parsed.signature_name)
    (result,) = core.infer(spec, method, examples.serialized(parsed.input), deadline=deadline).results
    if isinstance(result, Classes):
        return answers.classifications(result.labels, result.scores)
    return answers.regressions(result.values)


_PREDICT = Kind.PREDICT  # an enum's member takes long to look up
_INFERENCES = {Kind.PREDICT: _predict, Kind.CLASSIFY: _classify, Kind.REGRESS: _regress}


def _refusal(error: HeadraceError) -> Response:
    text = faults.serving_text(error.fault) if error.fault else error.message
    return Response(error.http_status, answers.error_body(text))


def page(status: HTTPStatus) -> Response:
    """What libevent says where TF Serving does not get to speak."""
    text = (
        f"<HTML><HEAD>\n<TITLE>{status.value} {status.phrase}</TITLE>\n</HEAD><BODY>\n"
        f"<H1>{status.phrase}</H1>\n</BODY></HTML>\n"
    )
    return Response(status.value, text.encode(), "text/html", closes=True)


def _header(scope: Mapping[str, Any], name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


def _options(scope: Mapping[str, Any]) -> Response:
    origin = dict(scope["headers"]).get(b"origin", b"")
    status = 200 if b"http://" in origin or b"https://" in origin else 400
    return Response(status, content_type=_EMPTY)


async def _body(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    declared = headers.get(b"content-length", b"")
    if int(declared or 0) > limit:  # the HTTP parser lets only digits through
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        whole: bytes = message.get("body", b"")
        if len(whole) > limit:
            raise _too_large(limit)
        return whole
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        if message["type"] == "http.disconnect":
            raise _CallerGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        more = message.get("more_body", False)
        if more:
            message = await receive()
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _discard(receive: Receive) -> None:
    try:
        async with asyncio.timeout(_DISCARD_S):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        return


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit} bytes")


def _inflate(body: bytes, limit: int) -> bytes:
    """As TF Serving has it, a body that does not inflate whole, or to too much, counts as none."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        data = inflater.decompress(body, limit)
    except zlib.error:
        return b""
    return data if inflater.eof and not inflater.unused_data else b""


def _target(scope: Mapping[str, Any]) -> bytes:
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path
