"""Several serving processes as one: the least busy that answers gets the call, a silent one gets
none.

Who failed is told by the calls and by the pulse (core.py), which also brings a replica back. A call
goes on to another replica only where nothing can have run: it was never sent, the replica said
NOT_FOUND, or it only asks for a state.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from gateway.errors import BackendDown
from gateway.upstream.backend_health import BackendHealth
from gateway.upstream.base import NOT_SERVED, CutOff, GrpcUpstream, Reply, RestUpstream
from headrace.protocol import messages
from headrace.protocol.errors import DeadlineExceeded, HeadraceError, NotFound, Unavailable

_READS = frozenset({messages.GET_MODEL_METADATA.path, messages.GET_MODEL_STATUS.path})
_CUT_IN_A_ROW = 3
_REST_S, _LONGEST_REST_S = 0.25, 15.0


class Replica:
    """One serving process: its two ports, its pulse, what is under way there, how often it cut
    calls off."""

    def __init__(
        self, rest: RestUpstream, grpc: GrpcUpstream, pulse_rest: RestUpstream, pulse: BackendHealth
    ) -> None:
        self.rest = rest
        self.grpc = grpc
        # A connection of its own: a pool full of slow calls must not look like death.
        self.pulse_rest = pulse_rest
        self.pulse = pulse
        self.under_way = 0
        self.rests_until = 0.0
        self._cut = 0

    def answered(self) -> None:
        self._cut = 0
        self.pulse.answered()

    def cut_off(self) -> None:
        """Alive to the pulse, yet calls end without an answer: after a few in a row it rests,
        longer each time."""
        self._cut += 1
        if self._cut >= _CUT_IN_A_ROW:
            rest_s = min(_REST_S * 2 ** min(self._cut - _CUT_IN_A_ROW, 10), _LONGEST_REST_S)
            self.rests_until = time.monotonic() + rest_s

    async def close(self) -> None:
        for upstream in (self.rest, self.pulse_rest, self.grpc):
            await upstream.close()


class Replicas:
    """RestUpstream and GrpcUpstream over all of them."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.all = tuple(replicas)
        self._turn = 0

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        timeout_s: float,
        request_id: str = "",
        content_type: str = "application/json",
    ) -> Reply:
        deadline = time.monotonic() + timeout_s
        tried: list[Replica] = []
        while True:
            replica = self._least_busy(tried)
            replica.under_way += 1
            try:
                reply = await replica.rest.send(
                    method,
                    path,
                    body,
                    timeout_s=deadline - time.monotonic() if tried else timeout_s,
                    request_id=request_id,
                    content_type=content_type,
                )
            except (BackendDown, CutOff) as e:
                self._go_on(e, replica, tried, reads=method == "GET")
            else:
                replica.answered()
                is_missing = reply.status == 404 and (
                    method == "GET" or NOT_SERVED.encode() in reply.body
                )
                if not is_missing or not self._others(replica, tried):
                    return reply
            finally:
                replica.under_way -= 1

    async def call(
        self, path: str, request: bytes, *, timeout_s: float, request_id: str = ""
    ) -> bytes:
        deadline = time.monotonic() + timeout_s
        tried: list[Replica] = []
        while True:
            replica = self._least_busy(tried)
            replica.under_way += 1
            try:
                left_s = deadline - time.monotonic() if tried else timeout_s
                reply = await replica.grpc.call(
                    path, request, timeout_s=left_s, request_id=request_id
                )
            except (BackendDown, CutOff) as e:
                self._go_on(e, replica, tried, reads=path in _READS)
            except NotFound as e:
                replica.answered()
                is_missing = path in _READS or NOT_SERVED in e.message
                if not is_missing or not self._others(replica, tried):
                    raise
            except DeadlineExceeded:
                raise
            except HeadraceError:
                replica.answered()
                raise
            else:
                replica.answered()
                return reply
            finally:
                replica.under_way -= 1

    async def everywhere(self, path: str, request: bytes, *, timeout_s: float) -> list[bytes]:
        """What each replica answers; an error only when none knows, NOT_FOUND before all others."""
        asked = [r for r in self.all if not r.pulse.down] or self.all
        told = await asyncio.gather(
            *(r.grpc.call(path, request, timeout_s=timeout_s) for r in asked),
            return_exceptions=True,
        )
        answers = [t for t in told if isinstance(t, bytes)]
        if answers:
            return answers
        raise next((t for t in told if isinstance(t, NotFound)), told[0])  # type: ignore[misc]

    async def close(self) -> None:
        for replica in self.all:
            await replica.close()

    def _least_busy(self, tried: Sequence[Replica]) -> Replica:
        if len(self.all) == 1:
            only = self.all[0]
            if only.pulse.down:
                raise _silent(self.all)
            return only
        now = time.monotonic()
        self._turn += 1
        open_ = [r for r in self.all if not r.pulse.down and r not in tried]
        if not open_:
            raise _silent(self.all)
        turned = self._turn % len(open_)
        return min(
            open_[turned:] + open_[:turned], key=lambda r: (r.rests_until > now, r.under_way)
        )

    def _others(self, replica: Replica, tried: list[Replica]) -> bool:
        tried.append(replica)
        return any(not r.pulse.down and r not in tried for r in self.all)

    def _go_on(
        self, e: BackendDown | CutOff, replica: Replica, tried: list[Replica], *, reads: bool
    ) -> None:
        """Raises, unless the call may go to another replica and there is one."""
        if isinstance(e, BackendDown):
            replica.pulse.failed(e.message)
        else:
            replica.cut_off()
        if not (self._others(replica, tried) and (reads or isinstance(e, BackendDown))):
            raise e


def _silent(replicas: Sequence[Replica]) -> Unavailable:
    reasons = "; ".join(dict.fromkeys(r.pulse.reason for r in replicas if r.pulse.down))
    return Unavailable(f"the serving backend does not answer: {reasons}")
