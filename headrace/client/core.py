"""What a client does, without protocol and I/O: a call is a generator that yields each request to
send and receives the response.

The synchronous and the asynchronous client share every decision this way. A codec (rest, grpc)
builds the requests and reads the responses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from headrace.client.casting import cast_inputs
from headrace.client.deadline import Deadline
from headrace.client.errors import UnexpectedResponse
from headrace.protocol.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    HeadraceError,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import DEFAULT_SIGNATURE, Signature

T = TypeVar("T")
Result = np.ndarray | dict[str, np.ndarray]
Flow = Generator[Any, Any, T]

DEFAULT_TIMEOUT_S = 30.0
# How long the signatures of the latest version, or of a label, are cached. A call that does not fit
# fetches them again at once. The limit matters for the one change no response shows: a new version
# whose output has another dtype, over REST.
METADATA_MAX_AGE_S = 60.0


def model_spec(name: str, version: int | None = None, label: str | None = None) -> ModelSpec:
    """InvalidArgument if the arguments do not name one version of one model."""
    if not name:
        raise InvalidArgument("no model named; models() or the server's config lists them")
    if version is not None and label is not None:
        raise InvalidArgument(f"{name}: give a version or a label, not both")
    return ModelSpec(name, version, label)


@dataclass(frozen=True, slots=True)
class Metadata:
    version: int
    signatures: dict[str, Signature]

    def signature(self, model: ModelSpec, name: str) -> Signature:
        if name in self.signatures:
            return self.signatures[name]
        names = ", ".join(sorted(n for n in self.signatures if not n.startswith("__"))) or "none"
        raise InvalidArgument(
            f"{model.name}: no signature {name!r} in version {self.version}; it has {names}"
        )


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """``state`` is START, LOADING, AVAILABLE, UNLOADING or END.

    ``error_code`` is "OK" unless loading failed.
    """

    version: int
    state: str
    error_code: str = "OK"
    error_message: str = ""

    @property
    def is_available(self) -> bool:
        return self.state == "AVAILABLE"


@dataclass(frozen=True, slots=True)
class Prediction:
    """``version`` is the one that answered, None if the protocol does not say."""

    outputs: dict[str, np.ndarray]
    version: int | None = None


class Codec(Protocol):
    """Builds the requests of one protocol. Sending a request gives what the method is named after.

    Only ``prediction`` reads a response: that of ``predict``, which needs the signature.
    """

    def predict(
        self, model: ModelSpec, arrays: Mapping[str, np.ndarray], signature: Signature
    ) -> Any: ...

    def prediction(self, response: Any, signature: Signature) -> Prediction: ...

    def metadata(self, model: ModelSpec) -> Any: ...

    def status(self, model: ModelSpec) -> Any: ...

    def models(self) -> Any: ...

    def ready(self) -> Any: ...


class Core:
    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        # The signatures of each model, and when they were fetched.
        self._cache: dict[ModelSpec, tuple[Metadata, float]] = {}

    def predict(self, model: ModelSpec, inputs: Any, signature_name: str | None) -> Flow[Result]:
        flow = self._predict(model, inputs, signature_name or DEFAULT_SIGNATURE)
        return (yield from self._naming_versions(model, flow))

    def metadata(self, model: ModelSpec) -> Flow[dict[str, Signature]]:
        metadata = yield from self._naming_versions(model, self._fetch_metadata(model))
        return metadata.signatures

    def status(self, model: ModelSpec) -> Flow[list[VersionStatus]]:
        return (yield from self._naming_versions(model, self._fetch_status(model)))

    def models(self) -> Flow[list[dict[str, Any]]]:
        models: list[dict[str, Any]] = yield self._codec.models()
        return models

    def ready(self, model_name: str | None) -> Flow[bool]:
        try:
            if model_name is None:
                return bool((yield self._codec.ready()))
            versions = yield from self._fetch_status(model_spec(model_name))
        except (Unavailable, DeadlineExceeded, NotFound):
            return False
        return any(version.is_available for version in versions)

    def _predict(self, model: ModelSpec, inputs: Any, signature_name: str) -> Flow[Result]:
        metadata, is_fresh = yield from self._metadata(model)
        try:
            signature = metadata.signature(model, signature_name)
            response = yield from self._send_predict(model, inputs, signature)
        except (InvalidArgument, FailedPrecondition, NotFound):
            # The live version may be another than the one in the cache. A refused request ran
            # nothing, so it is safe to send it again, built for the new signature.
            if is_fresh:
                raise
            cached = metadata
            metadata = yield from self._fetch_metadata(model)
            if _tensors(metadata, signature_name) == _tensors(cached, signature_name):
                raise
            is_fresh = True
            signature = metadata.signature(model, signature_name)
            response = yield from self._send_predict(model, inputs, signature)
        try:
            prediction = self._codec.prediction(response, signature)
        except UnexpectedResponse:
            if is_fresh:
                raise
            metadata = yield from self._fetch_metadata(model)
            signature = metadata.signature(model, signature_name)
            prediction = self._codec.prediction(response, signature)
        if prediction.version not in (None, metadata.version):
            self._cache.pop(model, None)
        return _result(prediction.outputs)

    def _send_predict(self, model: ModelSpec, inputs: Any, signature: Signature) -> Flow[Any]:
        arrays = cast_inputs(inputs, signature, model=model.name)
        return (yield self._codec.predict(model, arrays, signature))

    def _naming_versions(self, model: ModelSpec, flow: Flow[T]) -> Flow[T]:
        """Runs the flow. An error about a missing version names those there are, which servers
        leave out."""
        try:
            return (yield from flow)
        except NotFound as error:
            if model.version is None:
                raise
            try:
                statuses = yield from self._fetch_status(ModelSpec(model.name))
            except HeadraceError:
                raise error from None
            available = sorted(status.version for status in statuses if status.is_available)
            if model.version in available:
                raise
            numbers = ", ".join(map(str, available)) or "none"
            raise NotFound(
                f"{model.name}: no version {model.version}; available: {numbers}"
            ) from error

    def _metadata(self, model: ModelSpec) -> Flow[tuple[Metadata, bool]]:
        """The metadata, and whether it was fetched just now."""
        if model in self._cache:
            metadata, fetched_at = self._cache[model]
            age_s = time.monotonic() - fetched_at
            # The signatures of a numbered version do not change.
            if model.version is not None or age_s < METADATA_MAX_AGE_S:
                return metadata, False
        metadata = yield from self._fetch_metadata(model)
        return metadata, True

    def _fetch_metadata(self, model: ModelSpec) -> Flow[Metadata]:
        metadata: Metadata = yield self._codec.metadata(model)
        self._cache[model] = metadata, time.monotonic()
        return metadata

    def _fetch_status(self, model: ModelSpec) -> Flow[list[VersionStatus]]:
        statuses: list[VersionStatus] = yield self._codec.status(model)
        return statuses


def drive(flow: Flow[T], send: Callable[[Any, Deadline], Any], deadline: Deadline) -> T:
    """Runs a flow to its end. The async client has the same loop with await."""
    try:
        request = next(flow)
        while True:
            try:
                response = send(request, deadline)
            except HeadraceError as error:
                request = flow.throw(error)
            else:
                request = flow.send(response)
    except StopIteration as end:
        result: T = end.value
        return result


def _result(outputs: dict[str, np.ndarray]) -> Result:
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    return outputs


def _tensors(metadata: Metadata, signature_name: str) -> object:
    """The part of a signature that decides how a request is built and a response is read."""
    signature = metadata.signatures.get(signature_name)
    if signature is None:
        return None
    return dict(signature.inputs), dict(signature.outputs)
