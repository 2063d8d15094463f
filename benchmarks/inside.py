"""Where a call's microseconds go inside the gateway: its parts run alone in one process, with no
network below them.

`python -m benchmarks.inside` prints them; docs/concepts/gateway-cost.md explains them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.bare import ANSWER, MNIST
from benchmarks.stack import IMAGE_PATH, image_body
from benchmarks.table import Row
from gateway.contracts.catalog import Catalog, Contract, Model, VersionStatus
from gateway.core import Core
from gateway.disconnect import EXTENSION
from gateway.rest import RestDoor
from gateway.settings import Settings
from gateway.upstream.address import Address
from gateway.upstream.base import Reply
from gateway.upstream.http1 import Pool, _Connection
from headrace.codec import predict
from headrace.protocol.errors import Unavailable
from headrace.protocol.signatures import check

CALLS, ROUNDS = 1000, 7
_LIST = (
    'model_config_list { config { name: "mnist_cnn" base_path: "/models/mnist_cnn" '
    'model_platform: "tensorflow" } }'
)


def rows(*_: object) -> Iterator[Row]:
    body = image_body()
    codec = uvloop.run(_us(lambda: _read(body)))
    quiet, metrics, log = (
        uvloop.run(_door_us(body, metrics=m, access_log=a))
        for m, a in ((False, False), (True, False), (False, True))
    )
    pool = uvloop.run(_pool_us(body))
    yield Row("inside a REST call: reading and checking one image", f"{codec:.0f} us")
    yield Row(
        "inside a REST call: finding, pinning, answering, all else of the door",
        f"{quiet - codec:.0f} us",
    )
    yield Row("inside a REST call: the pool's request and its answer read", f"{pool:.0f} us")
    yield Row("inside a REST call: metrics", f"{metrics - quiet:.0f} us")
    yield Row("inside a REST call: its line in the log", f"{log - quiet:.0f} us")


def _read(body: bytes) -> None:
    read = predict.parse_predict(body).tensors(MNIST)
    check(MNIST, read.shapes(MNIST), row_format=read.row_format)


async def _us(call: Callable[[], Awaitable[Any] | None]) -> float:
    """CPU microseconds of one call: the median of some rounds."""
    took = []
    for _ in range(ROUNDS + 1):
        started = time.process_time()
        for _ in range(CALLS):
            if (work := call()) is not None:
                await work
        await asyncio.sleep(0.06)  # what is written together, the log, belongs to these calls
        took.append((time.process_time() - started) / CALLS * 1e6)
    return statistics.median(took[1:])


class _Instant:
    """A backend that has already answered."""

    async def send(self, *_: Any, **__: Any) -> Reply:
        return Reply(200, "application/json", ANSWER)

    async def call(self, *_: Any, **__: Any) -> bytes:
        raise Unavailable("no gRPC here")

    async def close(self) -> None: ...


async def _door_us(body: bytes, *, metrics: bool, access_log: bool) -> float:
    with tempfile.TemporaryDirectory() as folder, _to_nowhere():
        config = Path(folder, "multimodel.config")
        config.write_text(_LIST)
        s = Settings(
            model_config_file=str(config),
            metrics=metrics,
            access_log=access_log,
            probe_s=3600,
            refresh_s=3600,
        )
        async with Core(s, rest=_Instant(), grpc=_Instant()) as core:
            contract = Contract(
                "mnist_cnn", 1, {"serving_default": MNIST}, False, "/v1/versions/1:predict", b""
            )
            model = Model(
                "mnist_cnn", {}, (VersionStatus(1, "AVAILABLE"),), {1: contract}, has_status=True
            )
            core.registry.catalog = Catalog({"mnist_cnn": model})
            core.health.replicas[0].answered()
            door = RestDoor(core)
            headers = [(b"host", b"localhost"), (b"content-length", b"%d" % len(body))]
            scope = {
                "type": "http",
                "method": "POST",
                "path": IMAGE_PATH,
                "raw_path": IMAGE_PATH.encode(),
                "query_string": b"",
                "headers": headers,
                "extensions": {EXTENSION: set()},
            }

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": body, "more_body": False}

            async def send(message: Any) -> None:
                assert message.get("status", 200) == 200

            return await _us(lambda: door(scope, receive, send))


async def _pool_us(body: bytes) -> float:
    """The pool over a transport that answers at once."""
    loop = asyncio.get_running_loop()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(
        ANSWER
    )

    class Transport(asyncio.Transport):
        protocol: Any

        def write(self, data: Any) -> None:
            loop.call_soon(self.protocol.data_received, head + ANSWER)

        def get_write_buffer_size(self) -> int:
            return 0

        def abort(self) -> None: ...

    class Wired(Pool):
        async def _open(self, *_: object) -> _Connection:
            connection = _Connection(loop, 2**20)
            transport = Transport()
            transport.protocol = connection
            connection.connection_made(transport)
            return connection

    pool = Wired(Address("127.0.0.1", 1), connections=1, connect_timeout_s=1)
    try:
        return await _us(lambda: pool.send("POST", "/v1/versions/1:predict", body, timeout_s=30))
    finally:
        await pool.close()


@contextlib.contextmanager
def _to_nowhere() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


if __name__ == "__main__":
    for row in rows():
        print(f"{row.what}: {row.figure}")
