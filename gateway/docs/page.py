"""/docs: Swagger UI from an installed package, because it must work where no CDN can be reached."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse

from gateway.contracts.catalog import Catalog
from gateway.docs import openapi

_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


def add(frame: FastAPI, catalog: Callable[[], Catalog]) -> None:
    """The docs page, its assets, and a document that also holds what the REST door serves just
    now."""
    plain = frame.openapi
    made: tuple[object, dict[str, Any]] = (None, {})

    def document() -> dict[str, Any]:
        nonlocal made
        now = catalog()
        if (key := openapi.key(now)) != made[0]:
            made = key, openapi.extend(plain(), now)
        return made[1]

    frame.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document

    @frame.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    @frame.get("/docs", include_in_schema=False)
    async def page() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=frame.title,
            swagger_js_url="/docs/swagger-ui-bundle.js",
            swagger_css_url="/docs/swagger-ui.css",
            swagger_favicon_url="/docs/favicon-32x32.png",
        )

    @frame.get("/docs/{name}", include_in_schema=False)
    def asset(name: str) -> Response:
        if name not in _ASSETS:
            raise HTTPException(404)
        # Only the files of the package are used, not its code.
        content = resources.files("fastapi_swagger").joinpath("resources", name).read_bytes()
        return Response(
            content, media_type=_ASSETS[name], headers={"Cache-Control": "max-age=86400"}
        )
