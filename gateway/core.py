"""What both doors share, free of their protocols: the catalog, the backend, and the one road of a
call through them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import TypeVar

from gateway.calls.call import Call
from gateway.contracts.catalog import Catalog
from gateway.contracts.registry import Registry
from gateway.health import Health, Readiness
from gateway.metrics import Metrics
from gateway.probes import Prober
from gateway.settings import Settings
from gateway.upstream.address import Address
from gateway.upstream.backend_health import BackendHealth
from gateway.upstream.base import NOT_SERVED, GrpcChannel, GrpcUpstream, RestUpstream
from gateway.upstream.http1 import Pool
from gateway.upstream.replicas import Replica, Replicas
from headrace.http.access_log import AccessLog
from headrace.protocol.errors import NotFound, Unavailable

log = logging.getLogger("gateway")

Answer = TypeVar("Answer")


class Core:
    """Holds what lives as long as the gateway; an async context manager, opened by the app's
    lifespan."""

    # The backend, for either protocol: the doors ask for one each.
    rest: Replicas
    grpc: Replicas
    registry: Registry
    _prober: Prober

    def __init__(
        self,
        settings: Settings,
        *,
        rest: RestUpstream | None = None,
        grpc: GrpcUpstream | None = None,
        metrics: Metrics | None = None,
        was_ready: bool = False,
    ) -> None:
        """Tests bring upstreams of their own; without them those of the settings are opened."""
        self.settings = settings
        self.metrics = metrics or Metrics(enabled=settings.metrics)
        self.access_log = AccessLog("json" if settings.access_log else "off")
        self._rest_upstream = rest
        self._grpc_upstream = grpc
        count = 1 if rest else len(settings.upstream_rest)
        replicas = [BackendHealth(self._on_recovery) for _ in range(count)]
        self.health = Health(*replicas, was_ready=was_ready)
        # Ends when the gRPC server has stopped, which needs the backend until then.
        self.grpc_stopped: asyncio.Future[None] | None = None
        self._replica_recovered = False
        self._refresh_now = asyncio.Event()
        self._first_refresh_done = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def catalog(self) -> Catalog:
        return self.registry.catalog

    async def __aenter__(self) -> Core:
        s = self.settings
        self.rest = self.grpc = replicas = Replicas(self._replicas())
        self.registry = Registry(replicas, Path(s.model_config_file), lenient=s.lenient_models)
        self.registry.read_config()
        self.access_log.start()
        self.metrics.failures.read = lambda: self.catalog.failed_versions
        self._prober = Prober(
            replicas,
            lambda: self.catalog,
            pause_s=s.probe_s,
            timeout_s=s.probe_timeout_s,
            on_probe=lambda: self.metrics.backend(up=self.health.up),
        )
        self._tasks = []
        for replica in replicas.all:
            self._tasks.append(asyncio.create_task(self._prober.run(replica)))
        self._tasks.append(asyncio.create_task(self._refresh_forever()))
        # The first refresh is waited for, since calls before it cannot be answered. A backend that
        # is away must not keep the doors shut for long.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(s.probe_timeout_s):
                await self._first_refresh_done.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.grpc_stopped is not None:
            await self.grpc_stopped
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.rest.close()
        self.access_log.close()

    async def run(self, call: Call[Answer]) -> Answer:
        """Check the call, if need be in a thread, and send it to the version it was checked for.

        A name that the catalog lacks is looked up once more before the caller hears of it. Where
        the backend no longer has the version, and so has run nothing: refresh, check and send once
        more.
        """
        self._prober.gateway_is_used()
        try:
            if call.is_big:
                await asyncio.to_thread(call.check, self.registry.catalog)
            else:
                call.check(self.registry.catalog)
        except (NotFound, Unavailable):
            await self.registry.look_up(call.spec.name)
            await self._check_again(call)
        try:
            return await call.send()
        except NotFound as error:
            if NOT_SERVED not in error.message:
                raise
        # The list too: a label may have moved on with the version.
        self.registry.read_config()
        await self.registry.refresh_model(call.spec.name)
        await asyncio.to_thread(call.check, self.catalog)
        return await call.send()

    async def know_version(self, model: str, version: int) -> None:
        """Called before a caller hears of this version: its next call must find it in the
        catalog."""
        known = self.catalog.models.get(model)
        if known is not None and version not in known.contracts:
            await self.registry.refresh_model(model)

    def readiness(self) -> Readiness:
        self._prober.gateway_is_used()
        return self.health.readiness(self.catalog)

    async def current_readiness(self) -> Readiness:
        """The same, after asking replicas that have not been heard of for a while."""
        await self._prober.probe_stale()
        return self.readiness()

    async def _check_again(self, call: Call[Answer]) -> None:
        try:
            await asyncio.to_thread(call.check, self.catalog)
        except Unavailable as error:
            if self.health.up:
                raise
            reason = self.health.reason
            raise Unavailable(f"the serving backend does not answer: {reason}") from error

    def _on_recovery(self) -> None:
        self._replica_recovered = True
        self.health.replica_recovered()
        self._refresh_now.set()

    def _replicas(self) -> list[Replica]:
        s = self.settings
        if self._rest_upstream is not None and self._grpc_upstream is not None:
            rest, grpc = self._rest_upstream, self._grpc_upstream
            return [Replica(rest, grpc, rest, self.health.replicas[0])]
        addresses = zip(s.upstream_rest, s.upstream_grpc, self.health.replicas, strict=True)
        return [self._replica(rest, grpc, health) for rest, grpc, health in addresses]

    def _replica(self, rest: str, grpc: str, health: BackendHealth) -> Replica:
        s = self.settings
        address = Address.parse(rest)
        pool = Pool(
            address,
            connections=s.upstream_connections,
            connect_timeout_s=s.connect_timeout_s,
        )
        probe_pool = Pool(
            address,
            connections=1,
            connect_timeout_s=min(s.connect_timeout_s, s.probe_timeout_s),
        )
        return Replica(pool, GrpcChannel(grpc), probe_pool, health)

    async def _refresh_forever(self) -> None:
        while True:
            after_recovery = self._replica_recovered
            self._replica_recovered = False
            self._refresh_now.clear()
            try:
                await self.registry.refresh(reread_signatures=after_recovery)
            except Exception:
                # A failed refresh must not end all later ones.
                log.exception("refresh failed")
            if after_recovery and not self._replica_recovered:
                self.health.models_are_stale = False
            self._first_refresh_done.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._refresh_pause_s()):
                    await self._refresh_now.wait()

    def _refresh_pause_s(self) -> float:
        """Short while a model is about to be there. What failed to load may never be, and is not
        asked for more often."""
        s = self.settings
        models = self.catalog.models.values()
        if any(model.loading for model in models) or not any(model.contracts for model in models):
            return min(s.refresh_s, s.probe_s)
        return s.refresh_s
