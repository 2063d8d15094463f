"""Asks each replica whether it is alive, often enough for the calls that are coming in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from gateway.contracts.catalog import Catalog
from gateway.errors import BackendDown
from gateway.upstream.replicas import Replica, Replicas
from headrace.protocol import messages, rest_paths
from headrace.protocol.errors import DeadlineExceeded, HeadraceError, Unavailable
from headrace.protocol.model_spec import ModelSpec

# So many pauses after a probe there is another, though calls are answered: they use one of a
# replica's two ports, and the other may be silent.
_PAUSES_BETWEEN_PROBES = 4
# Without a call for so long, nobody waits for news.
_IDLE_AFTER_S = 1.0
_IDLE_PAUSE_S = 1.0


class Prober:
    """Reports to each replica's health. ``on_probe`` is called after each look at a replica."""

    def __init__(
        self,
        replicas: Replicas,
        catalog: Callable[[], Catalog],
        *,
        pause_s: float,
        timeout_s: float,
        on_probe: Callable[[], None],
    ) -> None:
        self._replicas = replicas
        self._catalog = catalog
        self._pause_s = pause_s
        self._timeout_s = timeout_s
        self._on_probe = on_probe
        self._used_at = float("-inf")
        # Wakes a probe loop that is idle.
        self._use = asyncio.Event()

    def gateway_is_used(self) -> None:
        self._used_at = time.monotonic()
        self._use.set()

    async def run(self, replica: Replica) -> None:
        """Probe one replica for ever."""
        probed_at = float("-inf")
        while True:
            now = time.monotonic()
            # Answered calls are signs of life too. Probing beside them, five times a second, cost
            # 10 us a call.
            is_quiet = not replica.health.answered_since(now - self._pause_s / 2)
            if is_quiet or now - probed_at > _PAUSES_BETWEEN_PROBES * self._pause_s:
                probed_at = now
                await self.probe(replica)
            self._on_probe()
            if self._is_idle(replica):
                self._use.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(self._pause_s, _IDLE_PAUSE_S)):
                        await self._use.wait()
            else:
                await asyncio.sleep(self._pause_s)

    async def probe_stale(self) -> None:
        """Probe the replicas whose last sign of life is older than it would be in use."""
        latest = time.monotonic() - self._pause_s
        stale = [
            replica
            for replica in self._replicas.all
            if replica.health.up and not replica.health.answered_since(latest)
        ]
        await asyncio.gather(*(self.probe(replica) for replica in stale))

    async def probe(self, replica: Replica) -> None:
        """Ask both ports for a model's status: any answer, even "unknown model", is a sign of
        life."""
        model = self._model_to_ask_for()
        request = messages.GetModelStatusRequest()
        request.model_spec.name = model
        probed_at = time.monotonic()
        answers = await asyncio.gather(
            replica.grpc.call(
                messages.GET_MODEL_STATUS.path,
                request.SerializeToString(),
                timeout_s=self._timeout_s,
            ),
            replica.probe_rest.send(
                "GET", rest_paths.path(ModelSpec(model)), None, timeout_s=self._timeout_s
            ),
            return_exceptions=True,
        )
        failures = [failure for failure in map(failure_of, answers) if failure is not None]
        if not failures:
            replica.health.answered()
        elif isinstance(failures[0], BackendDown):
            replica.health.failed(failures[0].message)
        else:
            replica.health.failed(str(failures[0]), probed_at=probed_at)

    def _model_to_ask_for(self) -> str:
        """Best one that is there: servers log the questions that they cannot answer."""
        models = self._catalog().models
        for model in models.values():
            if model.contracts:
                return model.name
        return next(iter(models), "-")

    def _is_idle(self, replica: Replica) -> bool:
        """Whether nobody waits for news of the replica.

        One of several is always probed often, because the next call must go to one that answers.
        """
        is_unused = time.monotonic() - self._used_at > _IDLE_AFTER_S
        return is_unused and replica.health.up and len(self._replicas.all) == 1


def failure_of(answer: object) -> BaseException | None:
    """What keeps an answer from being a sign of life. An error that the backend itself worded is
    none."""
    if not isinstance(answer, BaseException):
        return None
    if not isinstance(answer, HeadraceError):
        return answer
    return answer if isinstance(answer, Unavailable | DeadlineExceeded) else None
