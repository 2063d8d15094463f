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

_MODEL_LIST = "/v1/models"


class App:
    """The outer callable: /v1/ is taken before FastAPI and its middleware see it."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.fastapi = _fastapi(core)
        self._rest = RestDoor(core)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            is_list = path == _MODEL_LIST and scope["method"] == "GET"
            if path[:4].lower() == "/v1/" and not is_list:
                await self._rest(scope, receive, send)
                return
        await self.fastapi(scope, receive, send)


def create_app(settings: Settings, *, core: Core | None = None) -> App:
    """The app for these settings; tests may bring a core with upstreams of their own."""
    return App(core or Core(settings))


def _fastapi(core: Core) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with core:
            yield

    app = FastAPI(
        title="Headrace",
        version=__version__,
        description="Checked predictions of the models behind this gateway.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    page.add(app, lambda: core.catalog)
    app.add_exception_handler(HTTPException, _http_error)
    _add_health(app, core)

    @app.get(
        _MODEL_LIST,
        tags=["models"],
        summary="Every configured model with its versions, labels and signatures.",
    )
    async def models() -> dict[str, Any]:
        described = [_described(model) for _, model in sorted(core.catalog.models.items())]
        return {"models": described}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        content_type = "text/plain; version=0.0.4; charset=utf-8"
        return Response(core.metrics.render(), media_type=content_type)

    return app


def _add_health(app: FastAPI, core: Core) -> None:
    @app.get("/livez", tags=["health"], summary="200 as long as the process answers.")
    async def livez() -> dict[str, bool]:
        return {"alive": True}

    @app.get(
        "/readyz",
        tags=["health"],
        summary="200 when the backend answers and at least one model is AVAILABLE.",
        responses={
            404: {"description": "No such model."},
            503: {"description": "Not ready; the body says why."},
        },
    )
    async def readyz(model: str | None = None) -> JSONResponse:
        readiness = await core.current_readiness()
        if model is None:
            return _readiness(readiness.as_json(), ready=readiness.ready)
        try:
            ready, body = readiness.of_model(model)
        except HeadraceError as error:
            return JSONResponse({"ready": False, "error": error.message}, error.http_status)
        return _readiness(body, ready=ready)


def _readiness(body: dict[str, Any], *, ready: bool) -> JSONResponse:
    if ready:
        return JSONResponse(body)
    return JSONResponse(body, 503, dict([errors.RETRY_AFTER]))


async def _http_error(request: Request, cause: Exception) -> Response:
    """FastAPI's own errors, of unknown paths and other methods, as errors under /v1 look."""
    assert isinstance(cause, HTTPException)
    headers = dict(cause.headers or {})
    error: HeadraceError
    if cause.status_code == 404:
        error = NotFound(routes.NO_SUCH_PATH)
    elif cause.status_code == 405:
        error = errors.MethodNotAllowed(request.method, headers.get("Allow", "another"))
    else:
        error = HeadraceError(f"{request.method} {request.url.path[:200]}: {cause.detail}")
    caller_id = request.headers.get("x-request-id")
    request_id = request_ids.accept(None if caller_id is None else caller_id.encode("latin-1"))
    headers["x-request-id"] = request_id
    content_type, body = errors.answer(
        error,
        accept=request.headers.get("accept", "").encode("latin-1", "replace"),
        request_id=request_id,
        status=cause.status_code,
    )
    return Response(body, cause.status_code, headers, content_type)


def _described(model: Model) -> Mapping[str, Any]:
    latest = model.latest
    versions = [
        {"version": version.version, "state": version.state, "reason": version.reason}
        for version in model.versions
    ]
    return {
        **model_state(model),
        "loading": model.loading,
        "default_version": latest.version if latest else None,
        "versions": versions,
        "labels": dict(model.labels),
        "signatures": signatures.described(latest.signatures) if latest else {},
    }
