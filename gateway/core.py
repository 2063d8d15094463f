"""What both doors do, free of their protocols: find the contract, check, forward pinned, and keep
the picture fresh."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from gateway.contracts.catalog import Catalog
from gateway.contracts.registry import Registry
from gateway.errors import BackendDown
from gateway.health import Health, Readiness
from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.upstream.address import Address
from gateway.upstream.backend_health import BackendHealth
from gateway.upstream.base import NOT_SERVED, GrpcChannel, GrpcUpstream, RestUpstream
from gateway.upstream.http1 import Pool
from gateway.upstream.replicas import Replica, Replicas
from headrace.http.access_log import AccessLog
from headrace.protocol import messages, rest_paths
from headrace.protocol.errors import HeadraceError, NotFound, Unavailable
from headrace.protocol.model_spec import ModelSpec

log = logging.getLogger("gateway")

# Pauses: one of the two ports may be silent while the other answers calls.
_PROBE_ANYWAY = 4
_IDLE_AFTER_S = 1.0
_IDLE_PROBE_S = 1.0

A = TypeVar("A")
T = TypeVar("T")


class Core:
    """Holds what lives as long as the gateway; an async context manager, opened by the app's
    lifespan."""

    def __init__(
        self,
        settings: Settings,
        *,
        rest: RestUpstream | None = None,
        grpc: GrpcUpstream | None = None,
        metrics: Metrics | None = None,
        was_ready: bool = False,
    ) -> None:
        self.settings = settings
        self.metrics = metrics or Metrics(enabled=settings.metrics)
        self.access_log = AccessLog("json" if settings.access_log else "off")
        self._refresh_now = asyncio.Event()
        self._used_at = float("-inf")
        # Wakes those who are idle.
        self._used = asyncio.Event()
        self._returned = False
        self._given = (rest, grpc)
        pulses = (
            BackendHealth(self._on_return) for _ in ((0,) if rest else settings.upstream_rest)
        )
        self.health = Health(*pulses, was_ready=was_ready)
        self._looked = asyncio.Event()
        # The same as grpc: the doors ask for one protocol each.
        self.rest: Replicas
        self.grpc: Replicas
        self.registry: Registry
        self._tasks: list[asyncio.Task[None]] = []
        self.last_calls: asyncio.Future[None] | None = (
            # The other door's drain: the way upstream stays open for it.
            None
        )

    @property
    def catalog(self) -> Catalog:
        return self.registry.catalog

    async def __aenter__(self) -> Core:
        s = self.settings
        self.rest = self.grpc = Replicas(self._replicas())
        self.registry = Registry(self.grpc, Path(s.model_config_file), lenient=s.lenient_models)
        self.registry.read_config()
        self.access_log.start()
        self.metrics.failures.read = lambda: self.catalog.failed
        self._tasks = [
            asyncio.create_task(self._probe_forever(replica)) for replica in self.rest.all
        ]
        self._tasks.append(asyncio.create_task(self._refresh_forever()))
        # Who is let in before the first look is told to wait; a backend that is away must not keep
        # the doors shut.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(s.probe_timeout_s):
                await self._looked.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.last_calls is not None:
            await self.last_calls
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.rest.close()
        self.access_log.close()

    async def predict(
        self,
        target: ModelSpec,
        *,
        check: Callable[[Catalog], A],
        send: Callable[[A], Awaitable[T]],
        threaded: bool,
    ) -> T:
        """Check a call against the catalog, if need be in a thread, and send it to the version it
        was checked for.

        A name the catalog lacks is looked up once more before the caller is told. A pinned version
        that the backend no longer has (it says so, and nothing ran): look again, at labels too,
        check again, send once more.
        """
        self._use()
        try:
            admitted = (
                check(self.catalog)
                if not threaded
                else await asyncio.to_thread(check, self.catalog)
            )
        except (NotFound, Unavailable):
            await self.registry.missed(target.name)
            admitted = await self._checked_again(check)
        try:
            return await send(admitted)
        except NotFound as e:
            if NOT_SERVED not in e.message:
                raise
            # Where labels stand: one may have moved on with the version.
            self.registry.read_config()
            await self.registry.refresh_model(target.name)
            return await send(await asyncio.to_thread(check, self.catalog))

    async def _checked_again(self, check: Callable[[Catalog], A]) -> A:
        try:
            return await asyncio.to_thread(check, self.catalog)
        except Unavailable as e:
            if self.health.up:
                raise
            raise Unavailable(f"the serving backend does not answer: {self.health.reason}") from e

    async def told(self, model: str, version: int) -> None:
        """A caller is about to be told of this version: what it sends next is checked against it,
        so know it first."""
        known = self.catalog.models.get(model)
        if known is not None and version not in known.contracts:
            await self.registry.refresh_model(model)

    def readiness(self) -> Readiness:
        self._use()
        return self.health.readiness(self.catalog)

    async def readiness_now(self) -> Readiness:
        """Asks the backend first where its last answer is older than it would be in use."""
        last = time.monotonic() - self.settings.probe_s
        stale = [r for r in self.rest.all if r.pulse.up and not r.pulse.answered_since(last)]
        await asyncio.gather(*(self._probe(replica) for replica in stale))
        return self.readiness()

    def _on_return(self) -> None:
        self._returned = True
        self.health.returned()
        self._refresh_now.set()

    def _replicas(self) -> list[Replica]:
        s, (rest, grpc) = self.settings, self._given
        if rest is not None and grpc is not None:
            return [Replica(rest, grpc, rest, self.health.pulses[0])]
        return [
            Replica(
                Pool(
                    Address.parse(r),
                    connections=s.upstream_connections,
                    connect_timeout_s=s.connect_timeout_s,
                ),
                GrpcChannel(g),
                Pool(
                    Address.parse(r),
                    connections=1,
                    connect_timeout_s=min(s.connect_timeout_s, s.probe_timeout_s),
                ),
                pulse,
            )
            for r, g, pulse in zip(
                s.upstream_rest, s.upstream_grpc, self.health.pulses, strict=True
            )
        ]

    async def _probe_forever(self, replica: Replica) -> None:
        probed_at, pause_s = float("-inf"), self.settings.probe_s
        while True:
            now = time.monotonic()
            # Answered calls are signs of life too; asking all the same, five times a second, cost
            # 10 us a call.
            if (
                not replica.pulse.answered_since(now - pause_s / 2)
                or now - probed_at > _PROBE_ANYWAY * pause_s
            ):
                probed_at = now
                await self._probe(replica)
            self.metrics.backend(up=self.health.up)
            if self._is_idle(replica):
                self._used.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(pause_s, _IDLE_PROBE_S)):
                        await self._used.wait()
            else:
                await asyncio.sleep(pause_s)

    def _use(self) -> None:
        self._used_at = time.monotonic()
        self._used.set()

    def _is_idle(self, replica: Replica) -> bool:
        """Whether nobody waits for news of it. Of several replicas each is asked often: the next
        call must go to one that answers."""
        is_unused = time.monotonic() - self._used_at > _IDLE_AFTER_S
        return is_unused and replica.pulse.up and len(self.rest.all) == 1

    async def _probe(self, replica: Replica) -> None:
        """Ask both of its ports for a status: any answer, even "unknown model", is a sign of
        life."""
        # Best of a model that is there: a server logs the questions that it cannot answer.
        models = self.catalog.models.values()
        name = next((m.name for m in models if m.contracts), next(iter(self.catalog.models), "-"))
        request = messages.GetModelStatusRequest()
        request.model_spec.name = name
        timeout_s = self.settings.probe_timeout_s
        asked_at = time.monotonic()
        grpc, rest = await asyncio.gather(
            replica.grpc.call(
                messages.GET_MODEL_STATUS.path, request.SerializeToString(), timeout_s=timeout_s
            ),
            replica.pulse_rest.send(
                "GET", rest_paths.path(ModelSpec(name)), None, timeout_s=timeout_s
            ),
            return_exceptions=True,
        )
        fault = trouble(grpc) or trouble(rest)
        if fault is None:
            replica.pulse.answered()
        elif isinstance(fault, BackendDown):
            replica.pulse.failed(fault.message)
        else:
            replica.pulse.failed(str(fault), asked_at=asked_at)

    async def _refresh_forever(self) -> None:
        while True:
            anew, self._returned = self._returned, False
            self._refresh_now.clear()
            try:
                await self.registry.refresh(anew=anew)
            except Exception:
                # A fault in one look must not end all later ones.
                log.exception("refresh failed")
            if anew and not self._returned:
                self.health.doubtful = False
            self._looked.set()
            models = self.catalog.models.values()
            # Something will soon be there. What failed to load may never be, and is not asked after
            # more often.
            is_soon = any(m.loading for m in models) or not any(m.contracts for m in models)
            pause = (
                min(self.settings.refresh_s, self.settings.probe_s)
                if is_soon
                else self.settings.refresh_s
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._refresh_now.wait()


def trouble(answer: object) -> BaseException | None:
    """What keeps an answer from being a sign of life; an error that the backend itself worded is
    one."""
    if not isinstance(answer, BaseException):
        return None
    if (
        isinstance(answer, HeadraceError)
        and not isinstance(answer, Unavailable)
        and answer.grpc_code != 4
    ):
        return None
    return answer
