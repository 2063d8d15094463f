"""What a client does, free of protocol and of I/O: a call is a generator that yields what to send
and gets what came.

So the synchronous and the asynchronous client share every decision. A wire (rest, grpc) words the
calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from headrace.client import inputs as casting
from headrace.client.deadline import Deadline
from headrace.protocol import signatures
from headrace.protocol.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    HeadraceError,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unknown,
)
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import Signature

Result = np.ndarray | dict[str, np.ndarray]
Flow = Generator[Any, Any, Any]

DEFAULT_TIMEOUT_S = 30.0
# How long the signatures of "the latest version" or of a label are believed. A call that does not
# fit asks again in any case; this bounds the one change no answer shows: an output published anew
# with another dtype, over REST.
METADATA_MAX_AGE_S = 60.0


def model_spec(name: str, version: int | None = None, label: str | None = None) -> ModelSpec:
    """The model a call is for; InvalidArgument when no server could tell which is meant."""
    if not name:
        raise InvalidArgument(
            "no model named; models() or the server's config says which there are"
        )
    if version is not None and label is not None:
        raise InvalidArgument(f"{name}: give a version or a label, not both")
    return ModelSpec(name, version, label)


@dataclass(frozen=True, slots=True)
class Metadata:
    version: int
    signatures: dict[str, Signature]

    def signature(self, target: ModelSpec, name: str) -> Signature:
        if name not in self.signatures:
            known = (
                ", ".join(sorted(s for s in self.signatures if not s.startswith("__"))) or "none"
            )
            raise InvalidArgument(
                f"{target.name}: no signature {name!r} in version {self.version}; it has {known}"
            )
        return self.signatures[name]


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """``state`` is START, LOADING, AVAILABLE, UNLOADING or END; ``error_code`` "OK" unless the load
    failed."""

    version: int
    state: str
    error_code: str = "OK"
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """``version`` is which one answered, None where the protocol does not say."""

    outputs: dict[str, np.ndarray]
    version: int | None = None


class Misfit(Unknown):
    """An answer that is not what the signature promised."""


class Wire(Protocol):
    """One protocol's words. Each method but ``prediction`` gives a call; sending it gives what the
    name says."""

    def predict(
        self, target: ModelSpec, arrays: Mapping[str, np.ndarray], signature: Signature
    ) -> Any: ...

    def prediction(self, answer: Any, signature: Signature) -> Prediction: ...

    def metadata(self, target: ModelSpec) -> Any: ...

    def status(self, target: ModelSpec) -> Any: ...

    def models(self) -> Any: ...

    def ready(self) -> Any: ...


class Core:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._known: dict[ModelSpec, tuple[Metadata, float]] = {}

    def predict(self, target: ModelSpec, inputs: Any, signature_name: str) -> Flow:
        return (
            yield from self._with_versions(target, self._predict(target, inputs, signature_name))
        )

    def metadata(self, target: ModelSpec) -> Flow:
        return (yield from self._with_versions(target, self._fetch(target))).signatures

    def status(self, target: ModelSpec) -> Flow:
        return (yield from self._with_versions(target, self._status(target)))

    def models(self) -> Flow:
        return (yield self._wire.models())

    def ready(self, model: str | None) -> Flow:
        try:
            if model is None:
                return (yield self._wire.ready())
            versions = yield self._wire.status(model_spec(model))
        except (Unavailable, DeadlineExceeded, NotFound):
            return False
        return any(v.state == "AVAILABLE" for v in versions)

    def _predict(self, target: ModelSpec, inputs: Any, signature_name: str) -> Flow:
        metadata, is_fresh = yield from self._metadata(target)
        while True:
            try:
                signature = metadata.signature(target, signature_name)
                arrays = casting.named(inputs, signature, model=target.name)
                answer = yield self._wire.predict(target, arrays, signature)
                break
            except (InvalidArgument, FailedPrecondition, NotFound):
                # Perhaps another version is live than the one this call was made for. Such a
                # refusal ran nothing.
                if is_fresh:
                    raise
                newer = yield from self._fetch(target)
                if _promise(newer, signature_name) == _promise(metadata, signature_name):
                    raise
                metadata, is_fresh = newer, True
        try:
            prediction = self._wire.prediction(answer, signature)
        except Misfit:
            if is_fresh:
                raise
            metadata = yield from self._fetch(target)
            prediction = self._wire.prediction(answer, metadata.signature(target, signature_name))
        if prediction.version not in (None, metadata.version):
            self._known.pop(target, None)
        return (
            next(iter(prediction.outputs.values()))
            if len(prediction.outputs) == 1
            else prediction.outputs
        )

    def _with_versions(self, target: ModelSpec, flow: Flow) -> Flow:
        """The flow; where there is no such version, servers leave out which there are."""
        try:
            return (yield from flow)
        except NotFound as refusal:
            if target.version is None:
                raise
            try:
                versions = yield from self._status(ModelSpec(target.name))
            except HeadraceError:
                raise refusal from None
            numbers = sorted(v.version for v in versions if v.state == "AVAILABLE")
            if target.version in numbers:
                raise
            there = ", ".join(map(str, numbers)) or "none"
            raise NotFound(
                f"{target.name}: no version {target.version}; available: {there}"
            ) from refusal

    def _status(self, target: ModelSpec) -> Flow:
        return (yield self._wire.status(target))

    def _metadata(self, target: ModelSpec) -> Generator[Any, Any, tuple[Metadata, bool]]:
        metadata, since = self._known.get(target, (None, 0.0))
        is_settled = target.version is not None or time.monotonic() - since < METADATA_MAX_AGE_S
        if metadata is not None and is_settled:
            return metadata, False
        return (yield from self._fetch(target)), True

    def _fetch(self, target: ModelSpec) -> Generator[Any, Any, Metadata]:
        metadata: Metadata = yield self._wire.metadata(target)
        self._known[target] = metadata, time.monotonic()
        return metadata


def drive(flow: Flow, send: Callable[[Any, Deadline], Any], deadline: Deadline) -> Any:
    """Runs a flow to its end. The async client has its twin."""
    try:
        call = next(flow)
        while True:
            try:
                answer = send(call, deadline)
            except HeadraceError as error:
                call = flow.throw(error)
            else:
                call = flow.send(answer)
    except StopIteration as end:
        return end.value


def _promise(metadata: Metadata, signature_name: str) -> object:
    """What of a signature decides how a request is made and read."""
    signature = metadata.signatures.get(signature_name)
    return signature and (dict(signature.inputs), dict(signature.outputs))


def signature_or_default(name: str | None) -> str:
    return name or signatures.DEFAULT_SIGNATURE
