"""The server's calls without a protocol: predict, classify, regress, status, metadata. The REST and
gRPC doors both call it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.protocol.errors import FailedPrecondition, Internal, InvalidArgument, NotFound
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import (
    DEFAULT_SIGNATURE,
    METHOD_CLASSIFY,
    METHOD_PREDICT,
    METHOD_REGRESS,
    Signature,
)
from headrace.server import inference
from headrace.server.engines import Arrays, LoadedModel
from headrace.server.inference import Result, Run, Task
from headrace.server.lifecycle.repository import ModelStatus, Repository
from headrace.server.lifecycle.versions import VersionStatus
from headrace.server.metrics import Metrics
from headrace.server.runner import Runner, blocking

# The version that answered, the signature, and its outputs.
Prediction = tuple[int, Signature, Arrays]


@dataclass(frozen=True, slots=True)
class Inference:
    """``results`` are in the order of the tasks."""

    version: int
    results: Sequence[Result]


@dataclass(frozen=True, slots=True)
class Metadata:
    version: int
    signature_defs: Mapping[str, Any]


class SignatureNotFound(FailedPrecondition):
    """Has gRPC's text; REST answers with another text and code."""

    def __init__(self, name: str) -> None:
        super().__init__(f'Serving signature key "{name}" not found.')
        self.name = name


class Core:
    """``check_methods``: a signature's method name must fit the API that is called."""

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

    async def predict(
        self,
        spec: ModelSpec,
        read_inputs: Callable[[Signature], Arrays],
        *,
        output_filter: Sequence[str] = (),
        deadline: float | None = None,
        may_block: bool = False,
        is_gone: Callable[[], bool] | None = None,
        is_alone: Callable[[], bool] | None = None,
    ) -> Prediction:
        """``read_inputs`` reads the request once the signature is known; an empty ``output_filter``
        means all outputs. The rest says how the caller waits, as Runner.run() takes it."""
        with self._repository.use(spec) as (version, model):
            name = spec.signature_name or DEFAULT_SIGNATURE
            signature = model.signatures.get(name)
            if signature is None:
                raise SignatureNotFound(name)
            if self._check_methods:
                _check_method(signature)
            inputs = read_inputs(signature)
            if output_filter:
                _check_outputs(signature, output_filter)
            output_names = tuple(output_filter or signature.outputs)
            started = time.perf_counter()
            outputs = await self._runner.run(
                model,
                signature,
                inputs,
                output_names,
                deadline=deadline,
                may_block=may_block,
                is_gone=is_gone,
                is_alone=is_alone,
            )
            self._metrics.ran(spec.name, "Predict", time.perf_counter() - started)
        return version, signature, outputs

    def infer(
        self,
        spec: ModelSpec,
        method: str,
        examples: Sequence[bytes],
        *,
        deadline: float | None = None,
    ) -> Inference:
        """METHOD_CLASSIFY or METHOD_REGRESS over serialized tf.Examples."""
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
        """Several tasks in one run. A missing model is reported before what is wrong with the
        tasks."""
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
        """The signatures of a version; none where it is not loaded."""
        if version is None:
            return {}
        try:
            with self._repository.use(ModelSpec(name, version)) as (_, model):
                return model.signatures
        except NotFound:
            return {}

    def _run(self, name: str, model: LoadedModel, api: str, deadline: float | None) -> Run:
        def run(signature: Signature, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
            started = time.perf_counter()
            answer = blocking(
                self._runner.run(
                    model, signature, inputs, outputs, deadline=deadline, may_block=True
                )
            )
            self._metrics.ran(name, api, time.perf_counter() - started)
            return answer

        return run


_API = {METHOD_CLASSIFY: "Classify", METHOD_REGRESS: "Regress"}


def _check_method(signature: Signature) -> None:
    known = (METHOD_PREDICT, METHOD_CLASSIFY, METHOD_REGRESS)
    if signature.method_name not in known:
        raise Internal(
            f"Expected prediction signature method_name to be one of {{{', '.join(known)}}}. "
            f"Was: {signature.method_name}"
        )


def _check_outputs(signature: Signature, output_filter: Sequence[str]) -> None:
    checked: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            known = ",".join(sorted(signature.outputs))
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in "
                f"the set {{{known}}}."
            )
        if alias in checked:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        checked.add(alias)
