"""The REST door: /v1/models/... as a bare ASGI callable, because a web framework's path costs more than the check.

A predict call is checked with the shared codec and its body forwarded as it came, under a request head of our own.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from gateway import body as bodies
from gateway import errors
from gateway import log as logs
from gateway.body import Disconnected, Incoming, Message, Receive
from gateway.contracts import Contract, Target
from gateway.core import Core
from gateway.metrics import UNKNOWN
from gateway.upstream import Reply
from headrace.wire import rest as codec
from headrace.wire import signatures
from headrace.wire.errors import HeadraceError, Internal, InvalidArgument, NotFound, Unimplemented
from headrace.wire.faults import our_text

log = logging.getLogger("gateway")

Scope = Mapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

_WHICH = rb"(?:(?i:/versions/)(\d+)|(?i:/labels/)([^/:]+))?"
_INFERENCE = re.compile(rb"(?i:/v1/models/)([^/:]+)" + _WHICH + rb":(predict|classify|regress)")
_ABOUT = re.compile(rb"(?i:/v1/models/)([^/:]+)" + _WHICH + rb"(/metadata)?")
_TOLD_VERSION = re.compile(rb'"version": *"(\d+)"')  # of model_spec, which comes first in metadata
_JSON = "application/json"
_MAX_INT64 = 2**63 - 1
_CLOSE = (b"connection", b"close")


@dataclass(slots=True)
class Call:
    """One request on its way through; what is learnt about it ends in the log and the metrics."""

    method: str
    path: bytes
    headers: Mapping[bytes, bytes]
    receive: Incoming
    request_id: str
    model: str = UNKNOWN
    version: str = UNKNOWN
    signature: str = UNKNOWN
    body_bytes: int = 0


class RestDoor:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._settings = core.settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = dict(scope["headers"])
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        call = Call(scope["method"], path, headers, Incoming(receive), logs.request_id(headers.get(b"x-request-id")))
        extra: list[tuple[bytes, bytes]] = []
        self._core.metrics.in_flight += 1
        try:
            reply = await self._answer(call, scope["query_string"])
        except Disconnected:
            reply = None
        except HeadraceError as e:
            if isinstance(e, errors.MethodNotAllowed):
                extra.append((b"allow", e.allowed.encode()))
            if e.http_status in (405, 408, 413, 415):
                extra.append(_CLOSE)
            reply = Reply(e.http_status, _JSON, errors.body(e))
        except Exception:
            log.exception("a request failed inside the gateway", extra={"id": call.request_id})
            reply = Reply(500, _JSON, errors.body(Internal("the gateway failed on this request; its log says why")))
        finally:
            self._core.metrics.in_flight -= 1
        if reply is not None:
            await self._send(call, reply, send, extra=extra)
        self._record(call, 499 if reply is None else reply.status, 0 if reply is None else len(reply.body), started)

    async def _answer(self, call: Call, query: bytes) -> Reply:
        if query:
            raise InvalidArgument("a query string is not part of this API")
        if match := _INFERENCE.fullmatch(call.path):
            _require_method(call, "POST")
            target, verb = _target(match), match[4]
            if verb != b"predict":
                raise Unimplemented(f":{verb.decode()} does not go through this gateway yet; use :predict")
            return await self._predict(call, target)
        if match := _ABOUT.fullmatch(call.path):
            _require_method(call, "GET")
            return await self._about(call, match)
        raise NotFound(
            "no such path; here are POST /v1/models/NAME[/versions/N|/labels/L]:predict, GET /v1/models/NAME[/metadata]"
            " with or without /versions/N, and GET /v1/models"
        )

    async def _predict(self, call: Call, target: Target) -> Reply:
        s = self._settings
        body = await bodies.read(call.headers, call.receive, limit=s.max_body_bytes, timeout_s=s.timeout_s)
        call.body_bytes = len(body)
        deadline = time.monotonic() + s.timeout_s
        threaded = 0 <= s.thread_body_bytes < len(body)

        async def check() -> Contract:
            # A big body is checked in a thread, so that the calls beside it go on.
            if threaded:
                return await asyncio.to_thread(self._check, call, target, body)
            return self._check(call, target, body)

        async def send(contract: Contract) -> Reply:
            left = max(deadline - time.monotonic(), 0.001)
            reply = await self._core.rest.send(
                "POST", contract.predict_path, body, timeout_s=left, request_id=call.request_id
            )
            if reply.status == 404:
                raise NotFound(errors.backend_text(reply.body))
            return reply

        reply = await _unless_gone(self._core.predict(target, check=check, send=send), call.receive)
        return reply if reply.status < 400 else _explained(reply)

    def _check(self, call: Call, target: Target, body: bytes) -> Contract:
        """Everything that can be wrong with a predict call, in the order TensorFlow Serving looks at it."""
        parsed = codec.parse_predict(body)
        if fault := parsed.ambiguities():
            raise InvalidArgument(our_text(fault), fault=fault)
        contract = self._core.catalog.resolve(target)
        call.model, call.version = contract.model, str(contract.version)
        name = call.signature = contract.signature(parsed.signature_name)
        tensors = parsed.tensors(contract.signatures[name])
        specs = contract.signatures[name].inputs
        shapes = {alias: (specs[alias].dtype, array.shape) for alias, array in tensors.arrays.items()}
        # A column that no input has is ignored by the backend, so it is most likely a misspelt one.
        shapes.update((alias, (None, ())) for alias in tensors.unknown)
        signatures.check(contract.checked[name], shapes, row_format=tensors.row_format, named=tensors.named)
        return contract

    async def _about(self, call: Call, match: re.Match[bytes]) -> Reply:
        """Status and metadata: the backend's answer as it is, for models that are configured."""
        target = _target(match)
        model = self._core.catalog.models.get(target.model)
        if model is None:
            await self._core.registry.missed(target.model)
            model = self._core.catalog.model(target.model)
        call.model = model.name
        which = ""
        if target.version is not None:
            which = f"/versions/{target.version}"
        elif target.label is not None:
            which = f"/labels/{quote(target.label, safe='')}"
        path = f"/v1/models/{quote(model.name, safe='')}{which}{'/metadata' if match[4] else ''}"
        reply = await self._core.watched(
            self._core.rest.send("GET", path, None, timeout_s=self._settings.timeout_s, request_id=call.request_id)
        )
        if match[4] and (told := _TOLD_VERSION.search(reply.body)):
            await self._core.told(model.name, int(told[1]))
        return reply if reply.status < 400 else _explained(reply)

    async def _send(self, call: Call, reply: Reply, send: Send, *, extra: list[tuple[bytes, bytes]]) -> None:
        headers = [
            (b"content-type", reply.content_type.encode("latin-1")),
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", call.request_id.encode("ascii")),
            *extra,
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if _CLOSE in extra:  # refused before the body was read
            await send({"type": "http.response.body", "body": reply.body, "more_body": True})
            await bodies.drain(call.headers, call.receive)
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": reply.body})

    def _record(self, call: Call, status: int, sent: int, started: float) -> None:
        seconds = time.perf_counter() - started
        self._core.metrics.answered("rest", call.model, call.version, call.signature, str(status), seconds=seconds)
        self._core.access_log.write(
            id=call.request_id,
            door="rest",
            method=call.method,
            path=call.path[:300].decode("latin-1"),
            version=call.version,
            status=status,
            ms=round(seconds * 1000, 3),
            bytes_in=call.body_bytes,
            bytes_out=sent,
        )


async def _unless_gone(work: Awaitable[Reply], receive: Receive) -> Reply:
    """Await the answer, but give up (and so close the call upstream) when the caller hangs up."""
    me = asyncio.current_task()
    assert me is not None
    gone = False

    def hang_up(watch: asyncio.Task[Message]) -> None:
        nonlocal gone
        if not watch.cancelled() and not done:
            gone = True
            me.cancel()

    done = False
    watch = asyncio.ensure_future(receive())
    watch.add_done_callback(hang_up)
    try:
        return await work
    except asyncio.CancelledError:
        if gone:
            me.uncancel()
            raise Disconnected from None
        raise
    finally:
        done = True
        watch.cancel()


def _target(match: re.Match[bytes]) -> Target:
    model, version, label = match[1], match[2], match[3]
    if version is not None and (len(version) > 40 or int(version) > _MAX_INT64):
        raise InvalidArgument("the version in the path is beyond 64 bits")
    return Target(
        _decoded(model),
        None if version is None else int(version),
        None if label is None else _decoded(label),
    )


def _decoded(part: bytes) -> str:
    try:
        return unquote_to_bytes(part).decode("utf-8") if b"%" in part else part.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidArgument("the path is not UTF-8") from None


def _require_method(call: Call, wanted: str) -> None:
    if call.method != wanted:
        raise errors.MethodNotAllowed(call.method, wanted)


def _explained(reply: Reply) -> Reply:
    """A backend's error in our clothes: its status, its sentence, no names of graph nodes."""
    text = errors.backend_text(reply.body)
    return Reply(reply.status, _JSON, errors.body(HeadraceError(text)))
