"""Whether an export may enter the store: it is whole, the server's engine runs it, it keeps what its card says.

`python -m trainer.verify FOLDER` prints the checks as JSON. It is run as a process of its own, because the engine's
TensorFlow must not share one with the trainer's, and because a bad graph can end the process it runs in.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from headrace.server.engines import LoadedModel
from headrace.server.engines.tensorflow import TensorFlowEngine
from headrace.server.warmup import WarmingEngine
from headrace.wire import store
from headrace.wire.errors import HeadraceError, InvalidArgument
from headrace.wire.signatures import TensorSpec
from trainer import card, golden
from trainer.gate import Check


def verify(folder: Path) -> list[Check]:
    """Checks in order, up to the first that makes the rest pointless."""
    checks = [_files(folder)]
    if checks[0].refuses:
        return checks
    try:
        model = WarmingEngine(TensorFlowEngine()).load(folder)  # as the server does
    except HeadraceError as error:
        return [*checks, Check("loads in the server's engine", False, error.message)]
    try:
        names = ", ".join(_callable(model))
        checks.append(Check("loads in the server's engine", bool(names), f"signatures: {names or 'none'}"))
        promises = _promises(folder, model)
        checks += [*promises, *(_golden(folder, model) if not any(p.refuses for p in promises) else ())]
    finally:
        model.close()
    return [*checks, *_metric(folder)]


def _files(folder: Path) -> Check:
    if not store.is_complete(folder):
        return Check("files", False, "no whole SavedModel: saved_model.pb or variables are missing")
    wrong = card.changed(card.read(folder), folder)
    count = len(card.checksums(folder))
    return Check("files", not wrong, f"not as on the card: {', '.join(wrong)}" if wrong else f"{count} files")


def _callable(model: LoadedModel) -> list[str]:
    # TensorFlow keeps its initialisation among the signatures, under names callers cannot mean.
    return sorted(name for name in model.signatures if not name.startswith("__"))


def _promises(folder: Path, model: LoadedModel) -> list[Check]:
    """Every promised signature with exactly the promised inputs and outputs."""
    promised = card.read(folder).get("signatures", {})
    faults = []
    for name, promise in promised.items():
        signature = model.signatures.get(name)
        if signature is None:
            faults.append(f"{name} is missing")
            continue
        for side, specs in (("inputs", signature.inputs), ("outputs", signature.outputs)):
            found = {alias: _spec(spec) for alias, spec in specs.items()}
            if found != promise[side]:
                faults.append(f"{name} has {side} {found}, promised {promise[side]}")
    if not promised:
        return []
    return [Check("signatures as promised", not faults, "; ".join(faults) or ", ".join(promised))]


def _golden(folder: Path, model: LoadedModel) -> Iterator[Check]:
    tolerance = card.read(folder).get("tolerance", 0.0)
    for request in golden.read(folder):
        name = f"golden answers of {request['signature_name']}"
        try:
            faults = _replay(request, model, tolerance=tolerance)
        except HeadraceError as error:
            faults = [error.message]
        yield Check(name, not faults, "; ".join(faults) or f"within {tolerance:g}")


def _replay(request: golden.Golden, model: LoadedModel, *, tolerance: float) -> list[str]:
    signature = model.signatures.get(request["signature_name"])
    if signature is None:
        return ["there is no such signature"]
    inputs = {alias: _array(value, signature.inputs.get(alias), alias) for alias, value in request["inputs"].items()}
    wanted = {alias: _array(value, signature.outputs.get(alias), alias) for alias, value in request["outputs"].items()}
    answers = model.run(signature, inputs, list(wanted))
    told = {alias: golden.difference(answers[alias], wanted[alias], tolerance=tolerance) for alias in wanted}
    return [f"{alias} {difference}" for alias, difference in told.items() if difference]


def _array(value: Any, spec: TensorSpec | None, alias: str) -> np.ndarray:
    if spec is None or spec.dtype is None:
        raise InvalidArgument(f"{alias} is not in the signature")
    return golden.to_array(value, spec.dtype)


def _metric(folder: Path) -> list[Check]:
    """Told only: a quick training is let in, and says what it is."""
    metric = card.read(folder).get("metric")
    if metric is None:
        return []
    told = f"{metric['value']:.4g}, wanted {metric['wanted']} ({metric['baseline_is']}: {metric['baseline']:.4g})"
    return [Check(metric["name"], metric["reached"], told, binds=False)]


def _spec(spec: TensorSpec) -> str:
    """As zoo files write it: float [-1,28,28,1]."""
    shape = "?" if spec.shape is None else f"[{','.join(map(str, spec.shape))}]"
    return f"{spec.dtype or spec.dtype_number} {shape}"


if __name__ == "__main__":
    json.dump([asdict(check) for check in verify(Path(sys.argv[1]))], sys.stdout)
