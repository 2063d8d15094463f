"""Warm-up: replays the requests that come with a version before it serves, so that its first
callers need not wait.

As with TensorFlow Serving they are a TFRecord file of PredictionLog in assets.extra/, and a request
that fails makes the load fail.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headrace.codec import examples
from headrace.protocol import messages
from headrace.protocol.errors import (
    DataLoss,
    FailedPrecondition,
    HeadraceError,
    InvalidArgument,
    Unimplemented,
)
from headrace.protocol.signatures import (
    DEFAULT_SIGNATURE,
    METHOD_CLASSIFY,
    METHOD_REGRESS,
    Signature,
)
from headrace.server import inference, predict_request
from headrace.server.engines import Arrays, Engine, LoadedModel
from headrace.server.inference import Task
from headrace.server.metrics import Metrics
from headrace.store import records

log = logging.getLogger(__name__)

FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000


@dataclass(frozen=True, slots=True)
class WarmingEngine:
    """Loads as ``engine`` does, and replays each record ``iterations`` times."""

    engine: Engine
    iterations: int = 1
    metrics: Metrics = field(default_factory=Metrics)

    def load(self, folder: Path) -> LoadedModel:
        model = self.engine.load(folder)
        try:
            self._warm(model, folder)
        except BaseException:
            model.close()
            raise
        return model

    def _warm(self, model: LoadedModel, folder: Path) -> None:
        path = folder / FILE
        if not path.is_file():
            return
        started = time.perf_counter()
        count = 0
        status = "OK"
        try:
            for record in _records(path):
                count += 1
                for _ in range(self.iterations):
                    replay(model, record)
        except HeadraceError as error:
            status = error.status_name
            raise
        finally:
            seconds = time.perf_counter() - started
            self.metrics.warmed(str(folder), status, seconds, count)
        log.info("warmed up", extra={"version": str(folder), "records": count, "seconds": seconds})


def replay(model: LoadedModel, record: Any) -> None:
    """One PredictionLog. Its model name is ignored, only the signature name counts."""
    match record.WhichOneof("log_type"):
        case "predict_log":
            _predict(model, record.predict_log.request)
        case "classify_log":
            _infer(model, METHOD_CLASSIFY, record.classify_log.request)
        case "regress_log":
            _infer(model, METHOD_REGRESS, record.regress_log.request)
        case "multi_inference_log":
            _infer_all(model, record.multi_inference_log.request)
        case other:
            raise Unimplemented(f"Unsupported log_type for warmup: {other or 'none'}")


def recorded(data: bytes, signature: Signature) -> Arrays | None:
    """The inputs in a serialized PredictionLog; None where it is for another signature."""
    record = messages.parse(messages.PredictionLog, data)
    match record.WhichOneof("log_type"):
        case "predict_log":
            request = record.predict_log.request
            name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            if name != signature.name:
                return None
            return predict_request.read(signature, request.inputs)
        case "classify_log":
            return _examples(record.classify_log.request, signature)
        case "regress_log":
            return _examples(record.regress_log.request, signature)
    return None


def _examples(request: Any, signature: Signature) -> Arrays | None:
    if (request.model_spec.signature_name or DEFAULT_SIGNATURE) != signature.name:
        return None
    serialized = examples.serialized(request.input)
    array = np.empty(len(serialized), object)
    array[:] = serialized
    return {alias: array for alias in signature.inputs}


def _records(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        try:
            for count, data in enumerate(records.read(file), start=1):
                if count > MAX_RECORDS:
                    raise InvalidArgument(
                        f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}"
                    )
                try:
                    record = messages.parse(messages.PredictionLog, data)
                except InvalidArgument as error:
                    raise InvalidArgument(
                        f"Failed to parse warmup record: record {count} from {path}"
                    ) from error
                yield record
        except DataLoss as error:
            # The two full stops are TensorFlow Serving's.
            raise DataLoss(
                f"{error.message}. Please verify your warmup data is in TFRecord format."
            ) from error


def _predict(model: LoadedModel, request: Any) -> None:
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise FailedPrecondition(f'Serving signature key "{name}" not found.')
    outputs = tuple(request.output_filter) or tuple(signature.outputs)
    unknown = set(outputs) - set(signature.outputs)
    if unknown:
        raise InvalidArgument(f"output tensor alias not found in signature: {min(unknown)}")
    model.run(signature, predict_request.read(signature, request.inputs), outputs)


def _infer(model: LoadedModel, method: str, request: Any) -> None:
    task = Task(method, request.model_spec.signature_name)
    inference.infer(model, task, examples.serialized(request.input), model.run)


def _infer_all(model: LoadedModel, request: Any) -> None:
    tasks = [Task(task.method_name, task.model_spec.signature_name) for task in request.tasks]
    if not tasks:
        raise InvalidArgument("ModelSpec has no name specified.")
    inference.infer_all(model, tasks, examples.serialized(request.input), model.run)
