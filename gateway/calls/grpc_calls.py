"""Inference calls that came over gRPC: checked as messages, forwarded as the bytes that came."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from gateway import check, errors
from gateway.contracts.catalog import Catalog
from gateway.upstream.base import GrpcUpstream
from headrace.http.access_log import RequestInfo
from headrace.protocol.errors import DeadlineExceeded, HeadraceError
from headrace.protocol.messages import Method
from headrace.protocol.model_spec import ModelSpec


def left_s(deadline: float) -> float:
    """Seconds until this moment of the monotonic clock; DeadlineExceeded when it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded(
            "the deadline passed before the call was sent to the serving backend"
        )
    return left


@dataclass(slots=True, kw_only=True)
class _GrpcCall:
    method: Method
    spec: ModelSpec
    request: bytes
    # The request, parsed.
    message: Any
    info: RequestInfo
    request_id: str
    # On the monotonic clock.
    deadline: float
    is_big: bool
    upstream: GrpcUpstream
    # The request with the version that was checked.
    pinned: bytes = b""

    async def send(self) -> bytes:
        try:
            return await self.upstream.call(
                self.method.path,
                self.pinned,
                timeout_s=left_s(self.deadline),
                request_id=self.request_id,
            )
        except HeadraceError as error:
            error.message = errors.without_graph(error.message)
            raise


class PredictMessageCall(_GrpcCall):
    __slots__ = ()

    def check(self, catalog: Catalog) -> None:
        contract = check.predict_message(catalog, self.spec, self.message, self.info)
        self.pinned = self.request + contract.grpc_pin


@dataclass(slots=True, kw_only=True)
class ExamplesMessageCall(_GrpcCall):
    # "classify" or "regress".
    verb: str

    def check(self, catalog: Catalog) -> None:
        contract = check.examples_message(catalog, self.spec, self.verb, self.message, self.info)
        self.pinned = self.request + contract.grpc_pin


class MultiInferenceCall(_GrpcCall):
    __slots__ = ()

    def check(self, catalog: Catalog) -> None:
        contract = check.tasks_message(catalog, self.spec, self.message, self.info)
        # The backend goes by the version of the first task. Repeated fields do not merge, so the
        # request is written anew.
        self.message.tasks[0].model_spec.version.value = contract.version
        self.pinned = bytes(self.message.SerializeToString())
