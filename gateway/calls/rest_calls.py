"""Inference calls that came over REST.

PredictCall and ExamplesCall forward a JSON body as it came, over REST. TensorCall reads the body,
whether JSON, npy, npz or a picture, and sends its tensors over gRPC; big JSON bodies go this way
too, because that costs gateway and backend together less.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np

from gateway import check, errors
from gateway.bodies import binary, media
from gateway.bodies.media import Media
from gateway.contracts.catalog import Catalog, Contract
from gateway.settings import Settings
from gateway.upstream.base import NOT_SERVED, GrpcUpstream, Reply, RestUpstream
from headrace.http.access_log import RequestInfo
from headrace.protocol import messages
from headrace.protocol.errors import HeadraceError, InvalidArgument, NotFound, Unavailable
from headrace.protocol.model_spec import ModelSpec

_NOT_SERVED = NOT_SERVED.encode()
# For a call whose check took all the time there was; the backend may still be quick.
_LEAST_TIMEOUT_S = 0.001


@dataclass(slots=True, kw_only=True)
class _RestCall:
    spec: ModelSpec
    body: bytes
    info: RequestInfo
    # On the monotonic clock.
    deadline: float
    is_big: bool
    settings: Settings


@dataclass(slots=True, kw_only=True)
class _JsonCall(_RestCall):
    upstream: RestUpstream
    # Of the backend, pinned to the version that was checked.
    path: str = ""

    async def send(self) -> Reply:
        timeout_s = max(self.deadline - time.monotonic(), _LEAST_TIMEOUT_S)
        reply = await self.upstream.send(
            "POST", self.path, self.body, timeout_s=timeout_s, request_id=self.info.request_id
        )
        if reply.status == 404 and _NOT_SERVED in reply.body:
            raise NotFound(errors.backend_text(reply.body))
        if reply.status == 200 and not (reply.body[:1] == b"{" and reply.body[-1:] == b"}"):
            raise Unavailable("the serving backend's answer is not a JSON object")
        return reply


class PredictCall(_JsonCall):
    __slots__ = ()

    def check(self, catalog: Catalog) -> None:
        try:
            contract, _ = check.predict_body(
                catalog, self.spec, self.body, self.info, max_depth=self.settings.max_json_depth
            )
        except InvalidArgument as error:
            media.explain(self.body, Media.JSON, error)
            raise
        self.path = contract.predict_path


@dataclass(slots=True, kw_only=True)
class ExamplesCall(_JsonCall):
    # "classify" or "regress".
    verb: str

    def check(self, catalog: Catalog) -> None:
        contract = check.examples_body(
            catalog,
            self.spec,
            self.verb,
            self.body,
            self.info,
            max_depth=self.settings.max_json_depth,
        )
        self.path = contract.path(self.verb)


@dataclass(slots=True, kw_only=True)
class TensorCall(_RestCall):
    body_media: Media
    answer_media: Media
    # Of a body that cannot name it.
    signature_name: str
    upstream: GrpcUpstream
    contract: Contract = field(init=False)
    row_format: bool = False
    # A PredictRequest, pinned to the version that was checked.
    request: bytes = b""

    def check(self, catalog: Catalog) -> None:
        try:
            if self.body_media is Media.JSON:
                arrays = self._check_json(catalog)
            else:
                arrays = self._check_binary(catalog)
        except InvalidArgument as error:
            media.explain(self.body, self.body_media, error)
            raise
        signature_name = self.info.signature
        binary.check_answer(self.contract.signatures[signature_name], self.answer_media)
        self.request = binary.encode(self.contract, signature_name, arrays)

    async def send(self) -> Reply:
        timeout_s = max(self.deadline - time.monotonic(), _LEAST_TIMEOUT_S)
        try:
            reply = await self.upstream.call(
                messages.PREDICT.path,
                self.request,
                timeout_s=timeout_s,
                request_id=self.info.request_id,
            )
        except HeadraceError as error:
            error.message = errors.without_graph(error.message)
            raise
        if 0 <= self.settings.thread_body_bytes < len(reply):
            body = await asyncio.to_thread(self._answer, reply)
        else:
            body = self._answer(reply)
        return Reply(200, self.answer_media.value, body)

    def _check_json(self, catalog: Catalog) -> dict[str, np.ndarray]:
        self.contract, values = check.predict_body(
            catalog, self.spec, self.body, self.info, max_depth=self.settings.max_json_depth
        )
        self.row_format = values.row_format
        return values.arrays

    def _check_binary(self, catalog: Catalog) -> dict[str, np.ndarray]:
        self.contract = check.resolve(catalog, self.spec, self.signature_name, self.info)
        signature = self.contract.signatures[self.info.signature]
        arrays = binary.read(
            self.body, signature, self.body_media, limit=self.settings.max_body_bytes
        )
        check.arrays(self.contract, self.info.signature, arrays)
        return arrays

    def _answer(self, reply: bytes) -> bytes:
        signature = self.contract.signatures[self.info.signature]
        return binary.write_answer(reply, signature, self.answer_media, row_format=self.row_format)
