"""AsyncClient: the same client for asyncio. gRPC through grpc.aio; REST in threads, since requests
knows no asyncio."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from headrace.client import address as addresses
from headrace.client.address import Address
from headrace.client.core import (
    DEFAULT_TIMEOUT_S,
    Core,
    Flow,
    Result,
    VersionStatus,
    drive,
    model_spec,
    signature_or_default,
)
from headrace.client.deadline import Deadline, checked_timeout_s
from headrace.protocol.errors import HeadraceError
from headrace.protocol.signatures import Signature

if TYPE_CHECKING:
    from headrace.client.grpc import AioTransport

MAX_THREADS = 32


class AsyncClient:
    """``AsyncClient("grpc://127.0.0.1:8001")``: Client's methods, awaited. Belongs to one event
    loop.

    Over http:// each call takes one of 32 threads, and a cancelled call's thread goes on until its
    answer or its timeout; many calls at once are cheaper over grpc://, where cancelling a call
    cancels it at the server too.
    """

    def __init__(self, url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.address = addresses.parse(url)
        self.timeout_s = checked_timeout_s(timeout_s)
        wire, self._runner = _connected(self.address)
        self._core = Core(wire)
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
        flow = self._core.predict(
            model_spec(model, version, label), inputs, signature_or_default(signature)
        )
        found: Result = await self._run(flow, timeout_s)
        return found

    async def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Signature]:
        """As Client.metadata."""
        found: dict[str, Signature] = await self._run(
            self._core.metadata(model_spec(model, version, label)), timeout_s
        )
        return found

    async def status(
        self, model: str, *, version: int | None = None, timeout_s: float | None = None
    ) -> list[VersionStatus]:
        """As Client.status."""
        found: list[VersionStatus] = await self._run(
            self._core.status(model_spec(model, version)), timeout_s
        )
        return found

    async def models(self, *, timeout_s: float | None = None) -> list[dict[str, Any]]:
        """As Client.models."""
        found: list[dict[str, Any]] = await self._run(self._core.models(), timeout_s)
        return found

    async def ready(self, model: str | None = None, *, timeout_s: float | None = None) -> bool:
        """As Client.ready."""
        return bool(await self._run(self._core.ready(model), timeout_s))

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

    async def _run(self, flow: Flow, timeout_s: float | None) -> Any:
        if self._is_closed:
            raise RuntimeError(f"{self!r} is closed")
        limit_s = self.timeout_s if timeout_s is None else checked_timeout_s(timeout_s)
        return await self._runner.run(flow, Deadline(limit_s, self.address))


class _Runner(Protocol):
    async def run(self, flow: Flow, deadline: Deadline) -> Any: ...

    async def close(self) -> None: ...


class _Threads:
    """Whole flows in threads: the JSON of a large call must not hold up the event loop either."""

    def __init__(self, address: Address) -> None:
        from headrace.client.rest import RestTransport

        self._transport = RestTransport(address)
        self._pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="headrace-client")

    async def run(self, flow: Flow, deadline: Deadline) -> Any:
        work = partial(drive, flow, self._transport.send, deadline)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def close(self) -> None:
        self._pool.shutdown(wait=False)
        self._transport.close()


class _Channel:
    """Flows on the event loop, over a channel made at the first call: grpc.aio ties it to the
    running loop."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._transport: AioTransport | None = None

    async def run(self, flow: Flow, deadline: Deadline) -> Any:
        """core.drive(), awaited."""
        transport = self._connected()
        try:
            call = next(flow)
            while True:
                try:
                    answer = await transport.send(call, deadline)
                except HeadraceError as error:
                    call = flow.throw(error)
                else:
                    call = flow.send(answer)
        except StopIteration as end:
            return end.value

    async def close(self) -> None:
        if self._transport is not None:
            await self._transport.close()

    def _connected(self) -> AioTransport:
        if self._transport is None:
            from headrace.client.grpc import AioTransport

            self._transport = AioTransport(self._address)
        return self._transport


def _connected(address: Address) -> tuple[Any, _Runner]:
    if address.is_grpc:
        from headrace.client.grpc import GrpcWire

        return GrpcWire(), _Channel(address)
    from headrace.client.rest import RestWire

    return RestWire(), _Threads(address)
