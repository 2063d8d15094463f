"""The answers of the gRPC services, from message to message; nothing here knows the transport."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from headrace.codec import examples
from headrace.protocol import messages, tensors
from headrace.protocol.errors import HeadraceError, InvalidArgument
from headrace.protocol.messages import Method
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import DEFAULT_SIGNATURE, METHOD_CLASSIFY, METHOD_REGRESS
from headrace.server import predict_request
from headrace.server.core import Core
from headrace.server.inference import Classes, Result, Task
from headrace.server.lifecycle.reload import Reloader
from headrace.server.metrics import Metrics
from headrace.server.runner import blocking

Answer = Callable[[Any, float | None], Any]
Answers = Mapping[Method, Answer]


class PredictionService:
    def __init__(
        self, core: Core, *, metrics: Metrics | None = None, as_content: bool = False
    ) -> None:
        self._core = core
        self._metrics = metrics or Metrics()
        self._as_content = as_content

    def answers(self) -> Answers:
        return {
            messages.PREDICT: self._counted(messages.PREDICT, self.predict),
            messages.CLASSIFY: self._counted(messages.CLASSIFY, self.classify),
            messages.REGRESS: self._counted(messages.REGRESS, self.regress),
            messages.MULTI_INFERENCE: self.multi_inference,
            messages.GET_MODEL_METADATA: self.metadata,
        }

    def predict(self, request: Any, deadline: float | None) -> Any:
        spec = _spec(request)
        call = self._core.predict(
            spec,
            lambda signature: predict_request.read(signature, request.inputs),
            output_filter=request.output_filter,
            deadline=deadline,
            may_block=True,
        )
        version, _, outputs = blocking(call)
        response = messages.PredictResponse()
        for alias, array in outputs.items():
            response.outputs[alias].CopyFrom(tensors.to_proto(array, as_content=self._as_content))
        _describe(
            response.model_spec,
            spec.name,
            version,
            spec.signature_name or DEFAULT_SIGNATURE,
        )
        return response

    def classify(self, request: Any, deadline: float | None) -> Any:
        return self._infer(request, METHOD_CLASSIFY, messages.ClassificationResponse(), deadline)

    def regress(self, request: Any, deadline: float | None) -> Any:
        return self._infer(request, METHOD_REGRESS, messages.RegressionResponse(), deadline)

    def multi_inference(self, request: Any, deadline: float | None) -> Any:
        # Only the first task's choice of a version counts, as in TensorFlow Serving.
        first = request.tasks[0].model_spec if request.tasks else messages.ModelSpec()
        inference = self._core.infer_all(
            _read_spec(first),
            _tasks(request),
            examples.serialized(request.input),
            deadline=deadline,
        )
        response = messages.MultiInferenceResponse()
        for task, result in zip(request.tasks, inference.results, strict=True):
            added = response.results.add()
            name = task.model_spec.signature_name or DEFAULT_SIGNATURE
            _describe(added.model_spec, task.model_spec.name, inference.version, name)
            kind = "classification_result" if isinstance(result, Classes) else "regression_result"
            _write(getattr(added, kind), result)
        return response

    def metadata(self, request: Any, deadline: float | None) -> Any:
        spec = _spec(request)
        if not request.metadata_field:
            raise InvalidArgument(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for name in request.metadata_field:
            if name != "signature_def":
                raise InvalidArgument(f"Metadata field {name} is not supported")
        metadata = self._core.metadata(spec)
        signature_defs = messages.SignatureDefMap()
        for name, definition in metadata.signature_defs.items():
            signature_defs.signature_def[name].CopyFrom(definition)
        response = messages.GetModelMetadataResponse()
        response.metadata["signature_def"].CopyFrom(messages.pack(signature_defs))
        _describe(response.model_spec, spec.name, metadata.version, "")
        return response

    def _infer(self, request: Any, method: str, response: Any, deadline: float | None) -> Any:
        spec = _spec(request)
        inference = self._core.infer(
            spec, method, examples.serialized(request.input), deadline=deadline
        )
        (result,) = inference.results
        response.result.SetInParent()
        _write(response.result, result)
        _describe(
            response.model_spec,
            spec.name,
            inference.version,
            spec.signature_name or DEFAULT_SIGNATURE,
        )
        return response

    def _counted(self, method: Method, answer: Answer) -> Answer:
        def counted(request: Any, deadline: float | None) -> Any:
            started = time.perf_counter()
            outcome = "INTERNAL"
            try:
                response = answer(request, deadline)
                outcome = "OK"
                self._metrics.answered(
                    request.model_spec.name, method.name, "GRPC", time.perf_counter() - started
                )
                return response
            except HeadraceError as error:
                outcome = error.status_name
                raise
            finally:
                self._metrics.request(request.model_spec.name, outcome)

        return counted


class ModelService:
    def __init__(self, core: Core, reloader: Reloader, *, metrics: Metrics | None = None) -> None:
        self._core = core
        self._reloader = reloader
        self._metrics = metrics or Metrics()

    def answers(self) -> Answers:
        return {messages.GET_MODEL_STATUS: self.status}

    def slow_answers(self) -> Answers:
        """Those that may take minutes."""
        return {messages.HANDLE_RELOAD_CONFIG_REQUEST: self.reload}

    def status(self, request: Any, deadline: float | None) -> Any:
        spec = _spec(request)
        response = messages.GetModelStatusResponse()
        for row in self._core.status(spec.name, spec.version):
            added = response.model_version_status.add(version=row.version, state=int(row.state))
            added.status.SetInParent()
            added.status.error_code = row.error_code
            added.status.error_message = row.error_message
        return response

    def reload(self, request: Any, deadline: float | None) -> Any:
        before = {name: self._metrics.total(name) for name in request.metric_names}
        self._reloader.reload(request.config, deadline)
        response = messages.ReloadConfigResponse()
        response.status.SetInParent()
        for name, was in before.items():
            response.metric.add(name=name, int64_value_increase=self._metrics.total(name) - was)
        return response


class ProfilerService:
    """There is no profiler here: every trace is empty, and says so."""

    def answers(self) -> Answers:
        return {
            messages.PROFILE: lambda request, deadline: messages.ProfileResponse(empty_trace=True),
            messages.TERMINATE: lambda request, deadline: messages.TerminateResponse(),
        }


def _spec(request: Any) -> ModelSpec:
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    return _read_spec(request.model_spec)


def _read_spec(spec: Any) -> ModelSpec:
    chosen = spec.WhichOneof("version_choice")
    return ModelSpec(
        spec.name,
        version=spec.version.value if chosen == "version" else None,
        label=spec.version_label if chosen == "version_label" else None,
        signature_name=spec.signature_name,
    )


def _tasks(request: Any) -> Iterator[Task]:
    """Checked one by one, so that the first wrong one is reported."""
    model = request.tasks[0].model_spec.name if request.tasks else ""
    for task in request.tasks:
        if not task.model_spec.name:
            raise InvalidArgument("Found ModelSpec with an empty model name.")
        if task.model_spec.name != model:
            raise InvalidArgument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        yield Task(task.method_name, task.model_spec.signature_name)


def _describe(spec: Any, name: str, version: int, signature_name: str) -> None:
    spec.name = name
    spec.version.value = version
    spec.signature_name = signature_name


def _write(message: Any, result: Result) -> None:
    """Into a ClassificationResult or a RegressionResult."""
    if isinstance(result, Classes):
        for labels, scores in zip(result.labels, result.scores.tolist(), strict=True):
            row = message.classifications.add()
            for label, score in zip(labels, scores, strict=True):
                row.classes.add(label=label.decode("utf-8", "replace"), score=score)
        return
    for value in result.values.tolist():
        message.regressions.add(value=value)
