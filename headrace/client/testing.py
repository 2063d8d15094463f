"""For the tests of code that calls models: a Client whose models are functions in this process, no
server needed.

Only the network is missing: names, dtypes, versions and errors are the real client's business here
too.
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

_Answer = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class FakeModel:
    """``function`` takes the inputs by name and gives an array, or a dict of arrays by output name.

    ``inputs`` says each input's numpy dtype ("float32", or object for strings).
    """

    function: Callable[..., Any]
    inputs: Mapping[str, Any]
    version: int = 1
    signature: str = DEFAULT_SIGNATURE


@dataclass(frozen=True, slots=True)
class Call:
    """One prediction as it would have gone out: the arrays after naming and casting."""

    model: str
    arrays: Mapping[str, np.ndarray]
    version: int | None
    label: str | None


class FakeClient(Client):
    """``FakeClient({"half_plus_two": FakeModel(lambda x: x / 2 + 2, inputs={"x": "float32"})})``.

    ``calls`` lists what was asked. ``fail_with`` is raised by every request while it is set:
    Unavailable("down").
    """

    def __init__(
        self, models: Mapping[str, FakeModel], *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self.address = Address("fake", "models", 0)
        self.timeout_s = timeout_s
        self.fail_with: HeadraceError | None = None
        self._models = _Models(models)
        self._core = Core(self._models)
        self._transport = self
        self._is_closed = False

    @property
    def calls(self) -> list[Call]:
        return self._models.calls

    def send(self, call: _Answer, deadline: Deadline) -> Any:
        deadline.left_s()
        if self.fail_with is not None:
            raise self.fail_with
        return call()

    def close(self) -> None:
        self._is_closed = True


@dataclass(frozen=True, slots=True)
class _Models:
    """The wire of functions: a call is itself one."""

    served: Mapping[str, FakeModel]
    calls: list[Call] = field(default_factory=list)

    def predict(
        self, target: ModelSpec, arrays: Mapping[str, np.ndarray], signature: Signature
    ) -> _Answer:
        def run() -> dict[str, np.ndarray]:
            model = self._model(target)
            missing = sorted(model.inputs.keys() - arrays.keys())
            if missing:
                raise InvalidArgument(f"{target.name}: {missing_text(missing)}")
            self.calls.append(Call(target.name, arrays, target.version, target.label))
            outputs = model.function(**arrays)
            named = outputs if isinstance(outputs, Mapping) else {"output": outputs}
            return {name: np.asarray(value) for name, value in named.items()}

        return run

    def prediction(self, answer: dict[str, np.ndarray], signature: Signature) -> Prediction:
        return Prediction(answer)

    def metadata(self, target: ModelSpec) -> _Answer:
        def read() -> Metadata:
            model = self._model(target)
            return Metadata(model.version, {model.signature: _signature(model)})

        return read

    def status(self, target: ModelSpec) -> _Answer:
        return lambda: [VersionStatus(self._model(target).version, "AVAILABLE")]

    def models(self) -> _Answer:
        return lambda: [{"name": name, "state": "AVAILABLE"} for name in sorted(self.served)]

    def ready(self) -> _Answer:
        return lambda: True

    def _model(self, target: ModelSpec) -> FakeModel:
        model = self.served.get(target.name)
        if model is None or target.version not in (None, model.version):
            raise NotFound(
                f"no fake model {target.name!r}"
                + (f" version {target.version}" if target.version else "")
            )
        return model


def _signature(model: FakeModel) -> Signature:
    specs = {}
    for name, wanted in model.inputs.items():
        dtype = dtypes.by_numpy(np.dtype(wanted))
        if dtype is None:
            raise ValueError(f"input {name!r}: {wanted!r} is no dtype of TensorFlow's")
        specs[name] = TensorSpec(name, f"{name}:0", dtype, None, dtype.number)
    return Signature(model.signature, specs, {})
