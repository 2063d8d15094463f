"""Whether an export may enter the store: it is complete, runs, and keeps what its card says.

`python -m trainer.exports.verify FOLDER` prints the checks as JSON. It is a process of its own,
because the engine's TensorFlow must not share one with the trainer's, and because a bad graph can
end the process it runs in.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
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

    # With warm-up, as the server does.
    engine = WarmingEngine(TensorFlowEngine())
    try:
        model = engine.load(folder)
    except HeadraceError as error:
        checks.append(_loads(False, error.message))
        return checks

    try:
        names = ", ".join(_callable(model))
        checks.append(_loads(bool(names), f"signatures: {names or 'none'}"))
        signatures = _signatures(folder, model)
        checks += signatures
        if not any(check.refuses for check in signatures):
            checks += _golden(folder, model)
        checks.append(_row_wise(folder, model))
    finally:
        model.close()

    checks += _metric(folder)
    return checks


def _loads(passed: bool, detail: str) -> Check:
    return Check("loads in the server's engine", passed, detail, forcible=False)


def _files(folder: Path) -> list[Check]:
    missing = folders.missing(folder)
    if missing is not None:
        detail = f"no whole SavedModel: {missing}"
        return [Check("files", False, detail, forcible=False)]

    model_card = card.read(folder)
    names = card.checksums(folder)
    changed = card.changed_files(model_card, folder)
    if changed:
        detail = f"not as on the card: {', '.join(changed)}"
    else:
        detail = f"{len(names)} files"
    checks = [Check("files", not changed, detail, forcible=False)]

    max_bytes = model_card.get("budget", {}).get("max_bytes")
    if max_bytes:
        checks.append(_size(folder, names, max_bytes=max_bytes))
    return checks


def _size(folder: Path, names: Iterable[str], *, max_bytes: int) -> Check:
    size_bytes = 0
    for name in names:
        path = folder / name
        size_bytes += path.stat().st_size
    size_mb = size_bytes / 1e6
    max_mb = max_bytes / 1e6
    detail = f"{size_mb:.3g} MB of {max_mb:.3g} MB"
    return Check("size", size_bytes <= max_bytes, detail)


def _callable(model: LoadedModel) -> list[str]:
    # TensorFlow keeps its initialisation among the signatures, under names that nobody can call.
    names = []
    for name in sorted(model.signatures):
        if not name.startswith("__"):
            names.append(name)
    return names


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
        inputs = _spec_texts(signature.inputs)
        if inputs != spec["inputs"]:
            faults.append(f"{name} has inputs {inputs}, promised {spec['inputs']}")
        outputs = _spec_texts(signature.outputs)
        if outputs != spec["outputs"]:
            faults.append(f"{name} has outputs {outputs}, promised {spec['outputs']}")
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
        names = ", ".join(not_called)
        detail = f"none for {names}: not called"
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

    aliases = list(recorded)
    durations_s = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        answers = model.run(signature, inputs, aliases)
        durations_s.append(time.perf_counter() - began)

    faults = []
    for alias, array in recorded.items():
        fault = difference(answers[alias], array, tolerance=tolerance)
        if fault is not None:
            faults.append(f"{alias} {fault}")
    fastest_s = min(durations_s)
    return faults, fastest_s * 1000


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
    obstacles = adaptive.obstacles(model, folder)
    for name, reason in sorted(obstacles.items()):
        if reason:
            notes.append(f"{name} not: {reason}")
        else:
            notes.append(f"{name} yes")
    detail = "; ".join(notes) or "no signature"
    return Check("row-wise, so batched", True, detail, binds=False)


def _metric(folder: Path) -> list[Check]:
    """Reports the metric; it does not bind, so that quick trainings are let in as well."""
    metric = card.read(folder).get("metric")
    if metric is None:
        return []
    wanted = f"{metric['value']:.4g}, wanted {metric['wanted']}"
    baseline = f"{metric['baseline_is']}: {metric['baseline']:.4g}"
    check = Check(
        metric["name"],
        metric["reached"],
        f"{wanted} ({baseline})",
        binds=False,
    )
    return [check]


def _spec_texts(specs: Mapping[str, TensorSpec]) -> dict[str, str]:
    return {alias: _spec_text(spec) for alias, spec in specs.items()}


def _spec_text(spec: TensorSpec) -> str:
    """As zoo files write it: float [-1,28,28,1]."""
    shape = "?"
    if spec.shape is not None:
        sizes = ",".join(map(str, spec.shape))
        shape = f"[{sizes}]"
    return f"{spec.dtype or spec.dtype_number} {shape}"


def main() -> None:
    folder = Path(sys.argv[1])
    checks = verify(folder)
    json.dump([asdict(check) for check in checks], sys.stdout)


if __name__ == "__main__":
    main()
