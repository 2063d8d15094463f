"""AsyncClient: the same client for asyncio. gRPC uses grpc.aio; REST uses threads, because requests
has no asyncio."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from headrace.client.address import Address
from headrace.client.core import (
    DEFAULT_TIMEOUT_S,
    Core,
    Flow,
    Result,
    VersionStatus,
    drive,
    model_spec,
)
from headrace.client.deadline import Deadline, checked_timeout_s
from headrace.protocol.errors import HeadraceError
from headrace.protocol.signatures import Signature

if TYPE_CHECKING:
    from headrace.client.grpc import AioTransport

T = TypeVar("T")
MAX_THREADS = 32


class AsyncClient:
    """``AsyncClient("grpc://127.0.0.1:8001")``: the methods of Client, awaited, on one event loop.

    Over http:// each call takes one of 32 threads. The thread of a cancelled call goes on until the
    response or the timeout. Over grpc:// many calls at once cost less, and cancelling a call
    cancels it at the server too.
    """

    def __init__(self, url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.address = Address.parse(url)
        self.timeout_s = checked_timeout_s(timeout_s)
        codec, self._runner = _codec_and_runner(self.address)
        self._core = Core(codec)
        self._is_closed = False

    async def predict(
        self,
        model: str,
        inputs: Any,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str | None = None,
        timeout_s: float | None = None,
    ) -> Result:
        """As Client.predict."""
        flow = self._core.predict(model_spec(model, version, label), inputs, signature)
        return await self._run(flow, timeout_s)

    async def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Signature]:
        """As Client.metadata."""
        flow = self._core.metadata(model_spec(model, version, label))
        return await self._run(flow, timeout_s)

    async def status(
        self, model: str, *, version: int | None = None, timeout_s: float | None = None
    ) -> list[VersionStatus]:
        """As Client.status."""
        return await self._run(self._core.status(model_spec(model, version)), timeout_s)

    async def models(self, *, timeout_s: float | None = None) -> list[dict[str, Any]]:
        """As Client.models."""
        return await self._run(self._core.models(), timeout_s)

    async def ready(self, model: str | None = None, *, timeout_s: float | None = None) -> bool:
        """As Client.ready."""
        return await self._run(self._core.ready(model), timeout_s)

    async def close(self) -> None:
        self._is_closed = True
        await self._runner.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({str(self.address)!r})"

    async def _run(self, flow: Flow[T], timeout_s: float | None) -> T:
        if self._is_closed:
            raise RuntimeError(f"{self!r} is closed")
        limit_s = self.timeout_s if timeout_s is None else checked_timeout_s(timeout_s)
        return await self._runner.run(flow, Deadline(limit_s, self.address))


class _Runner(Protocol):
    async def run(self, flow: Flow[T], deadline: Deadline) -> T: ...

    async def close(self) -> None: ...


class _RestRunner:
    """Runs whole flows in threads: reading a large JSON body must not block the event loop
    either."""

    def __init__(self, address: Address) -> None:
        from headrace.client.rest import RestTransport

        self._transport = RestTransport(address)
        self._pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="headrace-client")

    async def run(self, flow: Flow[T], deadline: Deadline) -> T:
        work = partial(drive, flow, self._transport.send, deadline)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def close(self) -> None:
        self._pool.shutdown(wait=False)
        self._transport.close()


class _GrpcRunner:
    """Runs flows on the event loop. The channel is made at the first call, because grpc.aio ties it
    to the running loop."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._transport: AioTransport | None = None

    async def run(self, flow: Flow[T], deadline: Deadline) -> T:
        """core.drive() with await."""
        transport = self._connected()
        try:
            request = next(flow)
            while True:
                try:
                    response = await transport.send(request, deadline)
                except HeadraceError as error:
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    async def close(self) -> None:
        if self._transport is not None:
            await self._transport.close()

    def _connected(self) -> AioTransport:
        if self._transport is None:
            from headrace.client.grpc import AioTransport

            self._transport = AioTransport(self._address)
        return self._transport


def _codec_and_runner(address: Address) -> tuple[Any, _Runner]:
    if address.is_grpc:
        from headrace.client.grpc import GrpcCodec

        return GrpcCodec(), _GrpcRunner(address)
    from headrace.client.rest import RestCodec

    return RestCodec(), _RestRunner(address)
