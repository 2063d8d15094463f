"""The gateway as one ASGI app: /v1/models/... goes straight to the REST door, the rest to FastAPI.

create_app() is the composition: nothing is read, opened or started before the app's lifespan
begins.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, MutableMapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gateway import errors, routes
from gateway.contracts.catalog import Model
from gateway.core import Core
from gateway.docs import page
from gateway.health import model_state
from gateway.rest import RestDoor, Send
from gateway.settings import Settings
from headrace import __version__
from headrace.http import request_id as request_ids
from headrace.http.body import Receive
from headrace.protocol import signatures
from headrace.protocol.errors import HeadraceError, NotFound

_LIST = "/v1/models"


class App:
    """The outer callable: predict paths are taken before FastAPI and its middleware see them."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.frame = _frame(core)
        self._door = RestDoor(core)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if path[:4].lower() == "/v1/" and not (path == _LIST and scope["method"] == "GET"):
                await self._door(scope, receive, send)
                return
        await self.frame(scope, receive, send)


def create_app(settings: Settings, *, core: Core | None = None) -> App:
    """The app for these settings; tests may bring a core with upstreams of their own."""
    return App(core or Core(settings))


def _frame(core: Core) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with core:
            yield

    frame = FastAPI(
        title="Headrace",
        version=__version__,
        description="Checked predictions of the models behind this gateway.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    page.add(frame, lambda: core.catalog)
    frame.add_exception_handler(HTTPException, _refusal)
    _add_health(frame, core)

    @frame.get(
        _LIST,
        tags=["models"],
        summary="Every configured model with its versions, labels and signatures.",
    )
    async def models() -> dict[str, Any]:
        return {"models": [_described(m) for _, m in sorted(core.catalog.models.items())]}

    @frame.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(
            core.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    return frame


async def _refusal(request: Request, error: Exception) -> Response:
    """Paths that are nobody's, and methods that are not theirs, in the words and the shape of those
    under /v1."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    told = HeadraceError(f"{request.method} {request.url.path[:200]}: {error.detail}")
    if error.status_code == 404:
        told = NotFound(routes.NO_SUCH_PATH)
    elif error.status_code == 405:
        told = errors.MethodNotAllowed(request.method, headers.get("Allow", "another"))
    given = request.headers.get("x-request-id")
    request_id = headers["x-request-id"] = request_ids.accept(
        given.encode("latin-1") if given else None
    )
    accept = request.headers.get("accept", "").encode("latin-1", "replace")
    content_type, body = errors.answer(
        told, accept=accept, request_id=request_id, status=error.status_code
    )
    return Response(body, error.status_code, headers, content_type)


def _add_health(frame: FastAPI, core: Core) -> None:
    @frame.get("/livez", tags=["health"], summary="200 as long as the process answers.")
    async def livez() -> dict[str, bool]:
        return {"alive": True}

    @frame.get(
        "/readyz",
        tags=["health"],
        summary="200 when the backend answers and at least one model is AVAILABLE.",
        responses={
            404: {"description": "No such model."},
            503: {"description": "Not ready; the body says why."},
        },
    )
    async def readyz(model: str | None = None) -> JSONResponse:
        readiness = await core.readiness_now()
        if model is None:
            return _readiness(readiness.as_json(), ready=readiness.ready)
        try:
            ready, told = readiness.of_model(model)
        except HeadraceError as e:
            return JSONResponse({"ready": False, "error": e.message}, e.http_status)
        return _readiness(told, ready=ready)


def _readiness(told: dict[str, Any], *, ready: bool) -> JSONResponse:
    if ready:
        return JSONResponse(told)
    return JSONResponse(told, 503, dict([errors.RETRY_AFTER]))


def _described(model: Model) -> Mapping[str, Any]:
    latest = model.latest
    return {
        **model_state(model),
        "loading": model.loading,
        "default_version": latest.version if latest else None,
        "versions": [
            {"version": v.version, "state": v.state, "reason": v.reason} for v in model.versions
        ],
        "labels": dict(model.labels),
        "signatures": signatures.described(latest.signatures) if latest else {},
    }
