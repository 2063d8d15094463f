"""The gateway as tutorials write it: FastAPI, a pydantic body, one shared httpx.AsyncClient.

`python -m benchmarks.peers.tutorial PORT BACKEND_URL [shared|each]`: "each" opens a client for
every call, which httpx's pages advise against and much code does.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel


class Instances(BaseModel):
    instances: list[list[list[list[float]]]]


def create_app(backend: str, *, shared: bool) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with httpx.AsyncClient() as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/predict")
    async def predict(body: Instances, request: Request) -> Any:
        url = f"{backend}/v1/models/mnist_cnn:predict"
        if shared:
            answer = await request.app.state.client.post(url, json=body.model_dump())
        else:
            async with httpx.AsyncClient() as client:
                answer = await client.post(url, json=body.model_dump())
        answer.raise_for_status()
        return answer.json()

    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(sys.argv[2], shared=sys.argv[3] == "shared"),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
