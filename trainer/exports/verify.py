"""Whether an export may enter the store: it is complete, runs, and keeps what its card says.

`python -m trainer.exports.verify FOLDER` prints the checks as JSON. It is a process of its own,
because the engine's TensorFlow must not share one with the trainer's, and because a bad graph can
end the process it runs in.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from headrace.protocol.errors import HeadraceError, InvalidArgument
from headrace.protocol.signatures import Signature, TensorSpec
from headrace.server.batching import adaptive
from headrace.server.engines import LoadedModel
from headrace.server.engines.tensorflow import TensorFlowEngine
from headrace.server.lifecycle.warmup import WarmingEngine
from headrace.store import card, folders, golden
from headrace.store.golden import GoldenRequest
from trainer.exports.gate import Check
from trainer.exports.golden import difference, to_array

# Calls of each signature; the fastest counts, so that a busy machine refuses nothing.
_CALLS = 7


def verify(folder: Path) -> list[Check]:
    """The checks in order, up to the first that makes the rest pointless."""
    checks = _files(folder)
    if checks[0].refuses:
        return checks
    loads = "loads in the server's engine"
    try:
        # With warm-up, as the server does.
        model = WarmingEngine(TensorFlowEngine()).load(folder)
    except HeadraceError as error:
        return [*checks, Check(loads, False, error.message, forcible=False)]
    try:
        names = ", ".join(_callable(model))
        checks.append(Check(loads, bool(names), f"signatures: {names or 'none'}", forcible=False))
        signatures = _signatures(folder, model)
        checks += signatures
        if not any(check.refuses for check in signatures):
            checks += _golden(folder, model)
        checks.append(_row_wise(folder, model))
    finally:
        model.close()
    return [*checks, *_metric(folder)]


def _files(folder: Path) -> list[Check]:
    missing = folders.missing(folder)
    if missing is not None:
        return [Check("files", False, f"no whole SavedModel: {missing}", forcible=False)]
    model_card = card.read(folder)
    changed = card.changed_files(model_card, folder)
    names = card.checksums(folder)
    detail = f"not as on the card: {', '.join(changed)}" if changed else f"{len(names)} files"
    checks = [Check("files", not changed, detail, forcible=False)]
    max_bytes = model_card.get("budget", {}).get("max_bytes")
    if max_bytes:
        size = sum((folder / name).stat().st_size for name in names)
        detail = f"{size / 1e6:.3g} MB of {max_bytes / 1e6:.3g} MB"
        checks.append(Check("size", size <= max_bytes, detail))
    return checks


def _callable(model: LoadedModel) -> list[str]:
    # TensorFlow keeps its initialisation among the signatures, under names that nobody can call.
    return sorted(name for name in model.signatures if not name.startswith("__"))


def _signatures(folder: Path, model: LoadedModel) -> list[Check]:
    """Every signature on the card is there, with exactly those inputs and outputs."""
    promised = card.read(folder).get("signatures", {})
    if not promised:
        return []
    faults = []
    for name, spec in promised.items():
        signature = model.signatures.get(name)
        if signature is None:
            faults.append(f"{name} is missing")
            continue
        for side, specs in (("inputs", signature.inputs), ("outputs", signature.outputs)):
            actual = {alias: _spec_text(spec) for alias, spec in specs.items()}
            if actual != spec[side]:
                faults.append(f"{name} has {side} {actual}, promised {spec[side]}")
    detail = "; ".join(faults) or ", ".join(promised)
    return [Check("signatures as promised", not faults, detail)]


def _golden(folder: Path, model: LoadedModel) -> Iterator[Check]:
    """Every signature called with its example gives the recorded answer, and fast enough."""
    model_card = card.read(folder)
    tolerance = model_card.get("tolerance", 0.0)
    budget_ms = model_card.get("budget", {}).get("latency_ms")
    called = set()
    for request in golden.read(folder):
        name = request.signature_name
        called.add(name)
        fastest_ms = None
        try:
            faults, fastest_ms = _replay(request, model, tolerance=tolerance)
        except HeadraceError as error:
            faults = [error.message]
        detail = "; ".join(faults) or f"within {tolerance:g}"
        yield Check(f"golden answers of {name}", not faults, detail)
        if budget_ms and fastest_ms is not None:
            detail = f"{fastest_ms:.2g} ms of {budget_ms:g} ms"
            yield Check(f"latency of {name}", fastest_ms <= budget_ms, detail)
    not_called = [name for name in _callable(model) if name not in called]
    if not_called:
        # An export from elsewhere need not bring examples; one with promised signatures must.
        detail = f"none for {', '.join(not_called)}: not called"
        yield Check("examples", False, detail, binds="signatures" in model_card)


def _replay(
    request: GoldenRequest, model: LoadedModel, *, tolerance: float
) -> tuple[list[str], float]:
    """The differences from the recorded answer, and the milliseconds of the fastest call."""
    signature = _signature(request, model)
    inputs = _arrays(request.inputs, signature.inputs)
    recorded = _arrays(request.outputs, signature.outputs)
    if not recorded:
        raise InvalidArgument("no outputs are recorded")
    durations_s = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        answers = model.run(signature, inputs, list(recorded))
        durations_s.append(time.perf_counter() - began)
    faults = []
    for alias, array in recorded.items():
        fault = difference(answers[alias], array, tolerance=tolerance)
        if fault is not None:
            faults.append(f"{alias} {fault}")
    return faults, min(durations_s) * 1000


def _signature(request: GoldenRequest, model: LoadedModel) -> Signature:
    signature = model.signatures.get(request.signature_name)
    if signature is None:
        raise InvalidArgument("there is no such signature")
    return signature


def _arrays(values: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> dict[str, np.ndarray]:
    arrays = {}
    for alias, value in values.items():
        spec = specs.get(alias)
        if spec is None or spec.dtype is None:
            raise InvalidArgument(f"{alias} is not in the signature")
        arrays[alias] = to_array(value, spec.dtype)
    return arrays


def _row_wise(folder: Path, model: LoadedModel) -> Check:
    """Reports which signatures the server will batch, and why not the others."""
    notes = []
    for name, reason in sorted(adaptive.obstacles(model, folder).items()):
        notes.append(f"{name} not: {reason}" if reason else f"{name} yes")
    detail = "; ".join(notes) or "no signature"
    return Check("row-wise, so batched", True, detail, binds=False)


def _metric(folder: Path) -> list[Check]:
    """Reports the metric; it does not bind, so that quick trainings are let in as well."""
    metric = card.read(folder).get("metric")
    if metric is None:
        return []
    value, wanted = metric["value"], metric["wanted"]
    baseline_is, baseline = metric["baseline_is"], metric["baseline"]
    detail = f"{value:.4g}, wanted {wanted} ({baseline_is}: {baseline:.4g})"
    return [Check(metric["name"], metric["reached"], detail, binds=False)]


def _spec_text(spec: TensorSpec) -> str:
    """As zoo files write it: float [-1,28,28,1]."""
    shape = "?"
    if spec.shape is not None:
        shape = f"[{','.join(map(str, spec.shape))}]"
    return f"{spec.dtype or spec.dtype_number} {shape}"


if __name__ == "__main__":
    json.dump([asdict(check) for check in verify(Path(sys.argv[1]))], sys.stdout)
