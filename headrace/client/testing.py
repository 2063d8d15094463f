"""For the tests of code that calls models: a Client whose models are Python functions, without a
server.

Only the network is replaced: names, dtypes, versions and errors work as in the real client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.client.address import Address
from headrace.client.client import Client
from headrace.client.core import DEFAULT_TIMEOUT_S, Core, Metadata, Prediction, VersionStatus
from headrace.client.deadline import Deadline
from headrace.protocol import dtypes
from headrace.protocol.errors import HeadraceError, InvalidArgument, NotFound
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import DEFAULT_SIGNATURE, Signature, TensorSpec, missing_text

_Request = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class FakeModel:
    """``function`` takes the inputs by name and returns an array, or a dict of arrays by output
    name.

    ``inputs`` holds the numpy dtype of each input ("float32"; object for strings).
    """

    function: Callable[..., Any]
    inputs: Mapping[str, Any]
    version: int = 1
    signature: str = DEFAULT_SIGNATURE


@dataclass(frozen=True, slots=True)
class Call:
    """One prediction as the real client would send it: the arrays after naming and casting."""

    model: str
    arrays: Mapping[str, np.ndarray]
    version: int | None
    label: str | None


class FakeClient(Client):
    """``FakeClient({"half_plus_two": FakeModel(lambda x: x / 2 + 2, inputs={"x": "float32"})})``.

    ``calls`` lists the predictions so far. While ``fail_with`` is set, for example to
    Unavailable("down"), every request raises it.
    """

    def __init__(
        self, models: Mapping[str, FakeModel], *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self.address = Address("fake", "models", 0)
        self.timeout_s = timeout_s
        self.fail_with: HeadraceError | None = None
        self._codec = _FakeCodec(models)
        self._core = Core(self._codec)
        self._transport = self
        self._is_closed = False

    @property
    def calls(self) -> list[Call]:
        return self._codec.calls

    def send(self, request: _Request, deadline: Deadline) -> Any:
        deadline.remaining_s()
        if self.fail_with is not None:
            raise self.fail_with
        return request()

    def close(self) -> None:
        self._is_closed = True


@dataclass(frozen=True, slots=True)
class _FakeCodec:
    """A request is a function that gives the response."""

    models_by_name: Mapping[str, FakeModel]
    calls: list[Call] = field(default_factory=list)

    def predict(
        self, model: ModelSpec, arrays: Mapping[str, np.ndarray], signature: Signature
    ) -> _Request:
        def respond() -> dict[str, np.ndarray]:
            fake_model = self._find(model)
            missing = sorted(fake_model.inputs.keys() - arrays.keys())
            if missing:
                raise InvalidArgument(f"{model.name}: {missing_text(missing)}")
            self.calls.append(Call(model.name, arrays, model.version, model.label))
            outputs = fake_model.function(**arrays)
            if not isinstance(outputs, Mapping):
                outputs = {"output": outputs}
            return {name: np.asarray(value) for name, value in outputs.items()}

        return respond

    def prediction(self, response: dict[str, np.ndarray], signature: Signature) -> Prediction:
        return Prediction(response)

    def metadata(self, model: ModelSpec) -> _Request:
        def respond() -> Metadata:
            fake_model = self._find(model)
            return Metadata(fake_model.version, {fake_model.signature: _signature(fake_model)})

        return respond

    def status(self, model: ModelSpec) -> _Request:
        return lambda: [VersionStatus(self._find(model).version, "AVAILABLE")]

    def models(self) -> _Request:
        names = sorted(self.models_by_name)
        return lambda: [{"name": name, "state": "AVAILABLE"} for name in names]

    def ready(self) -> _Request:
        return lambda: True

    def _find(self, model: ModelSpec) -> FakeModel:
        fake_model = self.models_by_name.get(model.name)
        if fake_model is None:
            raise NotFound(f"no fake model {model.name!r}")
        if model.version not in (None, fake_model.version):
            raise NotFound(f"no version {model.version} of the fake model {model.name!r}")
        return fake_model


def _signature(model: FakeModel) -> Signature:
    specs = {}
    for name, numpy_dtype in model.inputs.items():
        dtype = dtypes.by_numpy(np.dtype(numpy_dtype))
        if dtype is None:
            raise ValueError(f"input {name!r}: TensorFlow has no dtype {numpy_dtype!r}")
        specs[name] = TensorSpec(name, f"{name}:0", dtype, None, dtype.number)
    return Signature(model.signature, specs, {})
