"""Warm-up: the requests that a version brings are replayed before it serves, so that its first
callers need not wait.

They lie in assets.extra/ as a TFRecord file of PredictionLog, TensorFlow Serving's own. One that
fails, fails the load.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
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
from headrace.server import inference, inputs
from headrace.server.engines import Engine, LoadedModel
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
        started, count, status = time.perf_counter(), 0, "OK"
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
    """One PredictionLog. Whom its requests were for is not looked at, only which signature."""
    match record.WhichOneof("log_type"):
        case "predict_log":
            _predict(model, record.predict_log.request)
        case "classify_log":
            _infer(model, METHOD_CLASSIFY, record.classify_log.request)
        case "regress_log":
            _infer(model, METHOD_REGRESS, record.regress_log.request)
        case "multi_inference_log":
            request = record.multi_inference_log.request
            tasks = [
                Task(task.method_name, task.model_spec.signature_name) for task in request.tasks
            ]
            if not tasks:
                raise InvalidArgument("ModelSpec has no name specified.")
            inference.infer_all(model, tasks, examples.serialized(request.input), _runs_on(model))
        case other:
            raise Unimplemented(f"Unsupported log_type for warmup: {other or 'none'}")


def recorded(data: bytes, signature: Signature) -> dict[str, np.ndarray] | None:
    """The inputs that a serialized PredictionLog has for this signature; None where it is for
    another."""
    record = messages.parse(messages.PredictionLog, data)
    match record.WhichOneof("log_type"):
        case "predict_log":
            request = record.predict_log.request
            name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            return inputs.read(signature, request.inputs) if name == signature.name else None
        case "classify_log":
            return _examples(record.classify_log.request, signature)
        case "regress_log":
            return _examples(record.regress_log.request, signature)
    return None


def _examples(request: Any, signature: Signature) -> dict[str, np.ndarray] | None:
    if (request.model_spec.signature_name or DEFAULT_SIGNATURE) != signature.name:
        return None
    found = np.empty(len(sent := examples.serialized(request.input)), object)
    found[:] = sent
    return {alias: found for alias in signature.inputs}


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
            # TensorFlow Serving's own two full stops.
            raise DataLoss(
                f"{error.message}. Please verify your warmup data is in TFRecord format."
            ) from error


def _predict(model: LoadedModel, request: Any) -> None:
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise FailedPrecondition(f'Serving signature key "{name}" not found.')
    wanted = tuple(request.output_filter) or tuple(signature.outputs)
    if unknown := set(wanted) - set(signature.outputs):
        raise InvalidArgument(f"output tensor alias not found in signature: {min(unknown)}")
    model.run(signature, inputs.read(signature, request.inputs), wanted)


def _infer(model: LoadedModel, method: str, request: Any) -> None:
    task = Task(method, request.model_spec.signature_name)
    inference.infer(model, task, examples.serialized(request.input), _runs_on(model))


def _runs_on(model: LoadedModel) -> inference.Run:
    def run(
        signature: Signature, arrays: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        return model.run(signature, arrays, outputs)

    return run
