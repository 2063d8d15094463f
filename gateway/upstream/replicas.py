"""Several serving processes as one: a call goes to the least busy of those that answer.

Calls and probes report who has failed; a probe brings a replica back. A call goes on to another
replica only where nothing can have run: it was never sent, the replica said NOT_FOUND, or it only
asks for a state.
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

_READ_PATHS = frozenset({messages.GET_MODEL_METADATA.path, messages.GET_MODEL_STATUS.path})
_NOT_SERVED = NOT_SERVED.encode()
# So many calls cut off in a row, and the replica is avoided for a time that doubles with each more.
_CUT_OFF_IN_A_ROW = 3
_FIRST_AVOIDANCE_S = 0.25
_MAX_AVOIDANCE_S = 15.0
_MAX_DOUBLINGS = 10


class Replica:
    """One serving process: its two ports, its health, and the calls that are under way there."""

    def __init__(
        self,
        rest: RestUpstream,
        grpc: GrpcUpstream,
        probe_rest: RestUpstream,
        health: BackendHealth,
    ) -> None:
        self.rest = rest
        self.grpc = grpc
        # A connection of its own: a pool full of slow calls must not look like death.
        self.probe_rest = probe_rest
        self.health = health
        self.in_flight = 0
        # On the monotonic clock; until then calls go elsewhere, if they can.
        self.avoided_until = 0.0
        self._cut_off_in_a_row = 0

    def answered(self) -> None:
        self._cut_off_in_a_row = 0
        self.health.answered()

    def cut_off(self) -> None:
        """A call ended without an answer. A process may do so with every call and yet be alive to
        probes."""
        self._cut_off_in_a_row += 1
        doublings = self._cut_off_in_a_row - _CUT_OFF_IN_A_ROW
        if doublings >= 0:
            avoidance_s = _FIRST_AVOIDANCE_S * 2 ** min(doublings, _MAX_DOUBLINGS)
            self.avoided_until = time.monotonic() + min(avoidance_s, _MAX_AVOIDANCE_S)

    async def close(self) -> None:
        for upstream in (self.rest, self.probe_rest, self.grpc):
            await upstream.close()


class Replicas:
    """RestUpstream and GrpcUpstream over all of them."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.all = tuple(replicas)
        # Where the search for the least busy starts; moves on with each call.
        self._start = 0

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
        is_read = method == "GET"
        tried: list[Replica] = []
        while True:
            replica = self._least_busy(tried)
            if tried:
                timeout_s = deadline - time.monotonic()
            replica.in_flight += 1
            try:
                reply = await replica.rest.send(
                    method,
                    path,
                    body,
                    timeout_s=timeout_s,
                    request_id=request_id,
                    content_type=content_type,
                )
            except (BackendDown, CutOff) as error:
                tried.append(replica)
                if not self._may_go_on(error, tried, is_read=is_read):
                    raise
            else:
                replica.answered()
                if reply.status != 404 or not (is_read or _NOT_SERVED in reply.body):
                    return reply
                tried.append(replica)
                if not self._is_another_up(tried):
                    return reply
            finally:
                replica.in_flight -= 1

    async def call(
        self, path: str, request: bytes, *, timeout_s: float, request_id: str = ""
    ) -> bytes:
        deadline = time.monotonic() + timeout_s
        is_read = path in _READ_PATHS
        tried: list[Replica] = []
        while True:
            replica = self._least_busy(tried)
            if tried:
                timeout_s = deadline - time.monotonic()
            replica.in_flight += 1
            try:
                reply = await replica.grpc.call(
                    path, request, timeout_s=timeout_s, request_id=request_id
                )
            except DeadlineExceeded:
                raise
            except (BackendDown, CutOff) as error:
                tried.append(replica)
                if not self._may_go_on(error, tried, is_read=is_read):
                    raise
            except HeadraceError as error:
                replica.answered()
                tried.append(replica)
                is_missing = isinstance(error, NotFound) and (
                    is_read or NOT_SERVED in error.message
                )
                if not (is_missing and self._is_another_up(tried)):
                    raise
            else:
                replica.answered()
                return reply
            finally:
                replica.in_flight -= 1

    async def call_all(self, path: str, request: bytes, *, timeout_s: float) -> list[bytes]:
        """The answers of all replicas that have one. An error only when none has: NOT_FOUND before
        any other."""
        replicas = [replica for replica in self.all if not replica.health.down] or self.all
        results = await asyncio.gather(
            *(replica.grpc.call(path, request, timeout_s=timeout_s) for replica in replicas),
            return_exceptions=True,
        )
        answers = [result for result in results if isinstance(result, bytes)]
        if answers:
            return answers
        errors = [result for result in results if isinstance(result, BaseException)]
        for error in errors:
            if isinstance(error, NotFound):
                raise error
        raise errors[0]

    async def close(self) -> None:
        for replica in self.all:
            await replica.close()

    def _least_busy(self, tried: Sequence[Replica]) -> Replica:
        if len(self.all) == 1:
            (replica,) = self.all
            if replica.health.down:
                raise _none_answers(self.all)
            return replica
        replicas = [r for r in self.all if not r.health.down and r not in tried]
        if not replicas:
            raise _none_answers(self.all)
        self._start += 1
        start = self._start % len(replicas)
        now = time.monotonic()
        return min(
            replicas[start:] + replicas[:start],
            key=lambda replica: (replica.avoided_until > now, replica.in_flight),
        )

    def _is_another_up(self, tried: Sequence[Replica]) -> bool:
        return any(not replica.health.down and replica not in tried for replica in self.all)

    def _may_go_on(
        self, error: BackendDown | CutOff, tried: Sequence[Replica], *, is_read: bool
    ) -> bool:
        """Whether a call that failed at the last of ``tried`` may be sent to another replica."""
        if isinstance(error, BackendDown):
            tried[-1].health.failed(error.message)
            return self._is_another_up(tried)
        tried[-1].cut_off()
        return is_read and self._is_another_up(tried)


def _none_answers(replicas: Sequence[Replica]) -> Unavailable:
    reasons = [replica.health.reason for replica in replicas if replica.health.down]
    return Unavailable(f"the serving backend does not answer: {'; '.join(dict.fromkeys(reasons))}")
