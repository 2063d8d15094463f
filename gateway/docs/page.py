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


def add(app: FastAPI, catalog: Callable[[], Catalog]) -> None:
    """Add the docs page and its assets, and put what the REST door serves just now into the
    document."""
    document = _Document(app.openapi, catalog)
    # FastAPI's documented way to extend the document.
    app.openapi = document  # type: ignore[method-assign]

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.get("/docs", include_in_schema=False)
    async def page() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url="/docs/swagger-ui-bundle.js",
            swagger_css_url="/docs/swagger-ui.css",
            swagger_favicon_url="/docs/favicon-32x32.png",
        )

    @app.get("/docs/{name}", include_in_schema=False)
    def asset(name: str) -> Response:
        if name not in _ASSETS:
            raise HTTPException(404)
        # Only the files of the package are used, not its code.
        file = resources.files("fastapi_swagger").joinpath("resources", name)
        return Response(
            file.read_bytes(),
            media_type=_ASSETS[name],
            headers={"Cache-Control": "max-age=86400"},
        )


class _Document:
    """The OpenAPI document, made anew when the live models have changed."""

    def __init__(
        self, fastapi_document: Callable[[], dict[str, Any]], catalog: Callable[[], Catalog]
    ) -> None:
        self._fastapi_document = fastapi_document
        self._catalog = catalog
        self._key: object = None
        self._document: dict[str, Any] = {}

    def __call__(self) -> dict[str, Any]:
        catalog = self._catalog()
        key = openapi.key(catalog)
        if key != self._key:
            self._document = openapi.extend(self._fastapi_document(), catalog)
            self._key = key
        return self._document
