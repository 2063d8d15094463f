"""Whether an export may enter the store: it is whole, the server's engine runs it, it keeps what
its card says.

`python -m trainer.exports.verify FOLDER` prints the checks as JSON. It is a process of its own,
because the engine's TensorFlow must not share one with the trainer's, and because a bad graph can
end the process it runs in.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from headrace.protocol.errors import HeadraceError, InvalidArgument
from headrace.protocol.signatures import TensorSpec
from headrace.server.batching import adaptive
from headrace.server.engines import LoadedModel
from headrace.server.engines.tensorflow import TensorFlowEngine
from headrace.server.lifecycle.warmup import WarmingEngine
from headrace.store import folders
from trainer.exports import card, golden
from trainer.exports.gate import Check

# Of each signature; the quickest counts, so that a busy machine refuses nothing.
_CALLS = 7


def verify(folder: Path) -> list[Check]:
    """Checks in order, up to the first that makes the rest pointless."""
    checks = [*_files(folder)]
    if checks[0].refuses:
        return checks
    loads = "loads in the server's engine"
    try:
        # As the server does.
        model = WarmingEngine(TensorFlowEngine()).load(folder)
    except HeadraceError as error:
        return [*checks, Check(loads, False, error.message, forcible=False)]
    try:
        names = ", ".join(_callable(model))
        checks.append(Check(loads, bool(names), f"signatures: {names or 'none'}", forcible=False))
        promises = _promises(folder, model)
        checks += [
            *promises,
            *(_golden(folder, model) if not any(p.refuses for p in promises) else ()),
        ]
        checks.append(_row_wise(folder, model))
    finally:
        model.close()
    return [*checks, *_metric(folder)]


def _files(folder: Path) -> list[Check]:
    if not folders.is_complete(folder):
        return [
            Check("files", False, f"no whole SavedModel: {folders.missing(folder)}", forcible=False)
        ]
    made = card.read(folder)
    wrong = card.changed(made, folder)
    sums = card.checksums(folder)
    told = f"not as on the card: {', '.join(wrong)}" if wrong else f"{len(sums)} files"
    checks = [Check("files", not wrong, told, forcible=False)]
    if most := made.get("budget", {}).get("max_bytes"):
        size = sum((folder / name).stat().st_size for name in sums)
        checks.append(Check("size", size <= most, f"{size / 1e6:.3g} MB of {most / 1e6:.3g} MB"))
    return checks


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
    """Every signature called with its example: the answer is the recorded one, and quick enough."""
    made = card.read(folder)
    tolerance = made.get("tolerance", 0.0)
    most_ms = made.get("budget", {}).get("latency_ms")
    asked = set()
    for request in golden.read(folder):
        signature = request["signature_name"]
        asked.add(signature)
        try:
            faults, quickest_ms = _replay(request, model, tolerance=tolerance)
        except HeadraceError as error:
            faults, quickest_ms = [error.message], None
        yield Check(
            f"golden answers of {signature}",
            not faults,
            "; ".join(faults) or f"within {tolerance:g}",
        )
        if most_ms and quickest_ms is not None:
            told = f"{quickest_ms:.2g} ms of {most_ms:g} ms"
            yield Check(f"latency of {signature}", quickest_ms <= most_ms, told)
    if left := [name for name in _callable(model) if name not in asked]:
        # An export from elsewhere may bring no examples; one of ours that misses some is not what
        # was promised.
        yield Check(
            "examples", False, f"none for {', '.join(left)}: not called", binds="signatures" in made
        )


def _replay(
    request: golden.Golden, model: LoadedModel, *, tolerance: float
) -> tuple[list[str], float | None]:
    """What differs from the recorded answer, and how long the quickest call took in
    milliseconds."""
    signature = model.signatures.get(request["signature_name"])
    if signature is None:
        return ["there is no such signature"], None
    inputs = {
        alias: _array(value, signature.inputs.get(alias), alias)
        for alias, value in request["inputs"].items()
    }
    wanted = {
        alias: _array(value, signature.outputs.get(alias), alias)
        for alias, value in request["outputs"].items()
    }
    took = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        answers = model.run(signature, inputs, list(wanted))
        took.append(time.perf_counter() - began)
    told = {
        alias: golden.difference(answers[alias], wanted[alias], tolerance=tolerance)
        for alias in wanted
    }
    return [f"{alias} {difference}" for alias, difference in told.items() if difference], min(
        took
    ) * 1000


def _array(value: Any, spec: TensorSpec | None, alias: str) -> np.ndarray:
    if spec is None or spec.dtype is None:
        raise InvalidArgument(f"{alias} is not in the signature")
    return golden.to_array(value, spec.dtype)


def _row_wise(folder: Path, model: LoadedModel) -> Check:
    """Told only: which signatures the server will batch, and why not the others."""
    found = adaptive.obstacles(model, folder)
    told = [f"{name} {f'not: {why}' if why else 'yes'}" for name, why in sorted(found.items())]
    return Check("row-wise, so batched", True, "; ".join(told) or "no signature", binds=False)


def _metric(folder: Path) -> list[Check]:
    """Told only: a quick training is let in, and says what it is."""
    metric = card.read(folder).get("metric")
    if metric is None:
        return []
    told = (
        f"{metric['value']:.4g}, wanted {metric['wanted']} ({metric['baseline_is']}: "
        f"{metric['baseline']:.4g})"
    )
    return [Check(metric["name"], metric["reached"], told, binds=False)]


def _spec(spec: TensorSpec) -> str:
    """As zoo files write it: float [-1,28,28,1]."""
    shape = "?" if spec.shape is None else f"[{','.join(map(str, spec.shape))}]"
    return f"{spec.dtype or spec.dtype_number} {shape}"


if __name__ == "__main__":
    json.dump([asdict(check) for check in verify(Path(sys.argv[1]))], sys.stdout)
