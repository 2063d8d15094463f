"""The answers of the server, free of protocol: predict, status, metadata, the list of models. Both doors call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.server.engines import LoadedModel
from headrace.server.repository import ModelSpec, ModelStatus, Repository
from headrace.server.runner import Runner
from headrace.server.versions import VersionStatus
from headrace.wire.errors import FailedPrecondition, InvalidArgument
from headrace.wire.signatures import DEFAULT_SIGNATURE, Signature

Inputs = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Prediction:
    version: int
    signature: Signature
    outputs: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Metadata:
    version: int
    signature_defs: Mapping[str, Any]


class SignatureNotFound(FailedPrecondition):
    """The words are gRPC's; REST has others, and another code."""

    def __init__(self, name: str) -> None:
        super().__init__(f'Serving signature key "{name}" not found.')
        self.name = name


class Core:
    def __init__(self, repository: Repository, runner: Runner) -> None:
        self._repository = repository
        self._runner = runner

    def predict(
        self,
        spec: ModelSpec,
        inputs: Callable[[Signature], Inputs],
        *,
        output_filter: Sequence[str] = (),
        deadline: float | None = None,
    ) -> Prediction:
        """``inputs`` reads the request once the signature is known; an empty ``output_filter`` means all outputs."""
        with self._repository.use(spec) as (version, model):
            signature = _signature(model, spec.signature_name or DEFAULT_SIGNATURE)
            arrays = inputs(signature)
            names = _outputs(signature, output_filter)
            outputs = self._runner.run(model, signature, arrays, names, deadline=deadline)
        return Prediction(version, signature, outputs)

    def status(self, name: str, version: int | None = None) -> Sequence[VersionStatus]:
        return self._repository.status(name, version)

    def metadata(self, spec: ModelSpec) -> Metadata:
        with self._repository.use(spec) as (version, model):
            return Metadata(version, model.signature_defs)

    def models(self) -> Sequence[ModelStatus]:
        return self._repository.models()


def _signature(model: LoadedModel, name: str) -> Signature:
    try:
        return model.signatures[name]
    except KeyError:
        raise SignatureNotFound(name) from None


def _outputs(signature: Signature, wanted: Sequence[str]) -> Sequence[str]:
    if not wanted:
        return tuple(signature.outputs)
    seen: set[str] = set()
    for alias in wanted:
        if alias not in signature.outputs:
            known = ",".join(sorted(signature.outputs))
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set {{{known}}}."
            )
        if alias in seen:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return tuple(wanted)
