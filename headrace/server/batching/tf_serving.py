"""TensorFlow Serving's own batching: requests wait for one another, up to a size or a time, and run
as one batch.

The operator turns it on, and vouches that the models treat rows one by one. Whoever runs a
BatchedModel need not know that it is one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.protocol.errors import DeadlineExceeded
from headrace.protocol.signatures import Signature
from headrace.server.batching import batches
from headrace.server.batching.batch_scheduler import BatchQueue, BatchScheduler
from headrace.server.batching.parameters import BatchingParameters
from headrace.server.deadlines import TIMED_OUT, wait_s
from headrace.server.engines import Arrays, Engine, LoadedModel

PARAMETERS_FILE = "batching_params.pbtxt"


@dataclass(frozen=True, slots=True)
class BatchingEngine:
    """Loads as ``engine`` does. Without ``parameters``, each version has its own in its folder, or
    is not batched."""

    engine: Engine
    scheduler: BatchScheduler
    parameters: BatchingParameters | None = None

    def load(self, folder: Path) -> LoadedModel:
        parameters = self.parameters
        path = folder / PARAMETERS_FILE
        if parameters is None and path.is_file():
            parameters = BatchingParameters.load(str(path))
        model = self.engine.load(folder)
        if parameters is None:
            return model
        return BatchedModel(model, self.scheduler, parameters)


class BatchedModel:
    """Each signature has two queues: one for requests of its own shapes, one for all others, so
    that a wrong shape spoils no right one."""

    def __init__(
        self, model: LoadedModel, scheduler: BatchScheduler, parameters: BatchingParameters
    ) -> None:
        self._model = model
        self._scheduler = scheduler
        self._parameters = parameters
        self.signatures: Mapping[str, Signature] = model.signatures
        self.signature_defs: Mapping[str, Any] = model.signature_defs
        self.not_row_wise = model.not_row_wise
        self._queues: dict[str, BatchQueue] = {}
        self._other_queues: dict[str, BatchQueue] = {}
        for name, signature in model.signatures.items():
            self._queues[name] = BatchQueue(model, signature, parameters)
            self._other_queues[name] = BatchQueue(model, signature, parameters)
        scheduler.add(self._all_queues())

    def run(
        self,
        signature: Signature,
        inputs: Arrays,
        outputs: Sequence[str],
        *,
        timeout_s: float | None = None,
    ) -> Arrays:
        """As part of a batch; alone when the request wants other outputs than the signature's or
        has other dtypes."""
        is_own = self.signatures.get(signature.name) is signature
        if not is_own or set(outputs) != set(signature.outputs):
            return self._model.run(signature, inputs, outputs, timeout_s=timeout_s)
        rows = batches.rows(inputs)
        if rows == 0 or not batches.has_dtypes(signature, inputs):
            return self._model.run(signature, inputs, outputs, timeout_s=timeout_s)
        has_shapes = batches.has_shapes(signature, inputs)
        queues = self._queues if has_shapes else self._other_queues
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        tasks = self._scheduler.submit(queues[signature.name], inputs, rows, deadline)
        for task in tasks:
            if not task.done.wait(wait_s(deadline)):
                raise DeadlineExceeded(TIMED_OUT)
            if task.error is not None:
                raise task.error
        if len(tasks) == 1:
            return tasks[0].outputs
        joined = {}
        for alias in outputs:
            joined[alias] = np.concatenate([task.outputs[alias] for task in tasks])
        return joined

    def expected_s(self, signature: Signature, requests: Iterable[Arrays]) -> float:
        """Unknown, as a request waits for others."""
        return math.inf

    def close(self) -> None:
        self._scheduler.remove(self._all_queues())
        self._model.close()

    def _all_queues(self) -> list[BatchQueue]:
        return [*self._queues.values(), *self._other_queues.values()]
