"""The answers of the server, free of protocol: predict, classify, regress, status, metadata. Both
doors call it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from headrace.protocol.errors import FailedPrecondition, Internal, InvalidArgument, NotFound
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import DEFAULT_SIGNATURE, Signature
from headrace.server import inference
from headrace.server.engines import LoadedModel
from headrace.server.inference import CLASSIFY, REGRESS, Result, Run, Task
from headrace.server.lifecycle.repository import ModelStatus, Repository
from headrace.server.lifecycle.versions import VersionStatus
from headrace.server.metrics import Metrics
from headrace.server.runner import Runner

Inputs = Mapping[str, np.ndarray]

_PREDICT = "tensorflow/serving/predict"


class Prediction(NamedTuple):
    version: int
    signature: Signature
    outputs: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Inference:
    """``results`` are those of the tasks, in their order."""

    version: int
    results: Sequence[Result]


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
    """``check_methods``: a signature must say that it is for the API that is asked for."""

    def __init__(
        self,
        repository: Repository,
        runner: Runner,
        *,
        metrics: Metrics | None = None,
        check_methods: bool = False,
    ) -> None:
        self._repository = repository
        self._runner = runner
        self._metrics = metrics or Metrics()
        self._check_methods = check_methods

    def predict(
        self,
        spec: ModelSpec,
        inputs: Callable[[Signature], Inputs],
        *,
        output_filter: Sequence[str] = (),
        deadline: float | None = None,
    ) -> Prediction:
        """``inputs`` reads the request once the signature is known; an empty ``output_filter``
        means all outputs."""
        with self._repository.use(spec) as (version, model):
            signature = self._wanted(model, spec)
            arrays = inputs(signature)
            names = _outputs(signature, output_filter)
            started = time.perf_counter()
            outputs = self._runner.run(model, signature, arrays, names, deadline=deadline)
            self._metrics.ran(spec.name, "Predict", time.perf_counter() - started)
        return Prediction(version, signature, outputs)

    async def predict_soon(
        self,
        spec: ModelSpec,
        inputs: Callable[[Signature], Inputs],
        *,
        deadline: float | None = None,
        is_gone: Callable[[], bool] | None = None,
        is_alone: Callable[[], bool] | None = None,
    ) -> Prediction:
        """All outputs, asked for by an event loop: ``inputs`` is read in it, so it had better be
        small.

        ``is_alone``: the loop has nobody else's call that could run together with this one."""
        with self._repository.use(spec) as (version, model):
            signature = self._wanted(model, spec)
            arrays = inputs(signature)
            started = time.perf_counter()
            outputs = await self._runner.run_soon(
                *(model, signature, arrays, tuple(signature.outputs)),
                deadline=deadline,
                is_gone=is_gone,
                is_alone=is_alone,
            )
            self._metrics.ran(spec.name, "Predict", time.perf_counter() - started)
        return Prediction(version, signature, outputs)

    def infer(
        self,
        spec: ModelSpec,
        method: str,
        examples: Sequence[bytes],
        *,
        deadline: float | None = None,
    ) -> Inference:
        """CLASSIFY or REGRESS over serialized tf.Examples."""
        with self._repository.use(spec) as (version, model):
            task = Task(method, spec.signature_name)
            run = self._run(spec.name, model, _API[method], deadline)
            result = inference.infer(model, task, examples, run, check_method=self._check_methods)
            self._metrics.examples_read(spec.name, len(examples))
        return Inference(version, (result,))

    def infer_all(
        self,
        spec: ModelSpec,
        tasks: Iterable[Task],
        examples: Sequence[bytes],
        *,
        deadline: float | None = None,
    ) -> Inference:
        """``tasks`` are asked for once the model is found: what is wrong with them comes second."""
        with self._repository.use(spec) as (version, model):
            run = self._run(spec.name, model, "MultiInference", deadline)
            results = inference.infer_all(
                model, tasks, examples, run, check_method=self._check_methods
            )
            self._metrics.examples_read(spec.name, len(examples))
        return Inference(version, results)

    def status(self, name: str, version: int | None = None) -> Sequence[VersionStatus]:
        return self._repository.status(name, version)

    def metadata(self, spec: ModelSpec) -> Metadata:
        with self._repository.use(spec) as (version, model):
            return Metadata(version, model.signature_defs)

    def models(self) -> Sequence[ModelStatus]:
        return self._repository.models()

    def signatures(self, name: str, version: int | None) -> Mapping[str, Signature]:
        """Those of a version; none where there is no such version, or no longer."""
        if version is None:
            return {}
        try:
            with self._repository.use(ModelSpec(name, version)) as (_, model):
                return model.signatures
        except NotFound:
            return {}

    def _wanted(self, model: LoadedModel, spec: ModelSpec) -> Signature:
        signature = _signature(model, spec.signature_name or DEFAULT_SIGNATURE)
        if self._check_methods:
            _check_method(signature)
        return signature

    def _run(self, name: str, model: LoadedModel, api: str, deadline: float | None) -> Run:
        def run(
            signature: Signature, inputs: Inputs, outputs: Sequence[str]
        ) -> dict[str, np.ndarray]:
            started = time.perf_counter()
            answer = self._runner.run(model, signature, inputs, outputs, deadline=deadline)
            self._metrics.ran(name, api, time.perf_counter() - started)
            return answer

        return run


_API = {CLASSIFY: "Classify", REGRESS: "Regress"}


def _check_method(signature: Signature) -> None:
    known = (_PREDICT, CLASSIFY, REGRESS)
    if signature.method_name not in known:
        raise Internal(
            f"Expected prediction signature method_name to be one of {{{', '.join(known)}}}. "
            f"Was: {signature.method_name}"
        )


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
                f"output tensor alias not found in signature: {alias} Outputs expected to be in "
                f"the set {{{known}}}."
            )
        if alias in seen:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return tuple(wanted)
