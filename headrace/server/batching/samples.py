"""The other half of the proof: rows are answered the same alone and among strangers.

Rows come from the requests a version brings (warm-up and golden ones); where there are none they
are made up from the signature. Samples alone would prove nothing, a graph that only looks row-wise
to us fails them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.protocol.errors import HeadraceError
from headrace.protocol.signatures import Signature, TensorSpec
from headrace.server.batching import batches
from headrace.server.engines import LoadedModel
from headrace.server.lifecycle import warmup
from headrace.store import golden, records

log = logging.getLogger(__name__)

_MOST_ROWS = 8
# Of files that samples are read from.
_MOST_BYTES = 64 << 20
_SIZES = (8, 5, 3, 2)
# Of one signature; a slow model gets fewer sizes, never none.
_BUDGET_S = 0.5
# How long a free dimension is made.
_FREE = 4
# Bytes of the type -> relative, absolute.
_FLOATS = {
    2: (2e-2, 2e-2),
    4: (1e-4, 1e-5),
    8: (1e-8, 1e-10),
}

Arrays = Mapping[str, np.ndarray]


def disagreement(model: LoadedModel, signature: Signature, rows: Sequence[Arrays]) -> str:
    """How rows, each a request of one, are answered otherwise together than alone; "" where they
    are not."""
    alone: list[tuple[Arrays, Arrays]] = []
    trouble = "no row of it could be made up, and the version brings none"
    until = time.monotonic() + _BUDGET_S
    for row in rows:
        try:
            alone.append((row, model.run(signature, row, tuple(signature.outputs))))
        except HeadraceError as error:
            trouble = f"no sample of it can be run: {error.message}"
        if time.monotonic() > until and len(alone) > 1:
            break
    if not alone:
        return trouble
    while len(alone) < _SIZES[-1]:
        alone.append(alone[0])
    until = time.monotonic() + _BUDGET_S
    for size in _SIZES:
        for chosen in (alone[:size], alone[::-1][:size]):
            if len(chosen) == size and (told := _together(model, signature, chosen)):
                return told
        if time.monotonic() > until:
            break
    return ""


def of(folder: Path, signature: Signature) -> list[Arrays]:
    """Single rows for the signature, of its own shapes: recorded ones, or made up."""
    found: list[Arrays] = []
    for request in (*_recorded(folder, signature), *_golden(folder, signature)):
        if batches.has_dtypes(signature, request) and batches.has_shapes(signature, request):
            count = min((len(array) for array in request.values()), default=0)
            found += [
                {alias: array[i : i + 1] for alias, array in request.items()} for i in range(count)
            ]
        if len(found) >= _MOST_ROWS:
            break
    found = [row for row in found[:_MOST_ROWS] if _shapes(row) == _shapes(found[0])]
    made = _made_up(signature, like=found[0] if found else None)
    return [*found, *made][:_MOST_ROWS]


def _together(
    model: LoadedModel, signature: Signature, chosen: Sequence[tuple[Arrays, Arrays]]
) -> str:
    merged = {
        alias: np.concatenate([row[alias] for row, _ in chosen]) for alias in signature.inputs
    }
    try:
        answers = model.run(signature, merged, tuple(signature.outputs))
    except HeadraceError as error:
        return f"{len(chosen)} rows do not run together: {error.message}"
    for alias, array in answers.items():
        if array.shape[:1] != (len(chosen),):
            return f"{len(chosen)} rows have {alias} of shape {list(array.shape)}"
        for i, (_, answer) in enumerate(chosen):
            if not _agree(array[i : i + 1], answer[alias]):
                return f"{alias} of a row is another among {len(chosen)} rows than alone"
    return ""


def _agree(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "OSUbiu":
        return bool(np.array_equal(one, other))
    size = one.dtype.itemsize // (2 if one.dtype.kind == "c" else 1)
    relative, absolute = _FLOATS.get(size, _FLOATS[4])
    wide = np.complex128 if one.dtype.kind == "c" else np.float64
    return bool(
        np.allclose(
            one.astype(wide), other.astype(wide), rtol=relative, atol=absolute, equal_nan=True
        )
    )


def _recorded(folder: Path, signature: Signature) -> Iterator[Arrays]:
    """Of the version's warm-up file. Where that is not replayed it need not be sound: what can be
    read of it counts."""
    path = folder / warmup.FILE
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return
    try:
        with path.open("rb") as file:
            for data in records.read(file):
                if (found := warmup.recorded(data, signature)) is not None:
                    yield found
    except HeadraceError as error:
        log.warning(
            "recorded requests are not read", extra={"file": str(path), "reason": error.message}
        )


def _golden(folder: Path, signature: Signature) -> Iterator[Arrays]:
    try:
        for request in golden.read(folder, max_bytes=_MOST_BYTES):
            if request.signature_name != signature.name:
                continue
            if request.inputs.keys() == signature.inputs.keys():
                yield {
                    alias: _array(value, signature.inputs[alias])
                    for alias, value in request.inputs.items()
                }
    except (HeadraceError, OSError, ValueError, TypeError, LookupError, OverflowError) as error:
        path = folder / golden.FILE
        log.warning("golden requests are not read", extra={"file": str(path), "reason": str(error)})


def _array(value: Any, spec: TensorSpec) -> np.ndarray:
    return np.array(golden.with_bytes(value), None if spec.dtype is None else spec.dtype.numpy)


def _shapes(row: Arrays) -> dict[str, tuple[int, ...]]:
    return {alias: array.shape for alias, array in row.items()}


def _made_up(signature: Signature, *, like: Arrays | None) -> list[Arrays]:
    """Different rows, reproducibly; small whole numbers for what may be an index."""
    random = np.random.default_rng(7)
    found: list[Arrays] = []
    for _ in range(_MOST_ROWS):
        row: dict[str, np.ndarray] = {}
        for alias, spec in signature.inputs.items():
            if spec.dtype is None or not spec.shape:
                return []
            free = tuple(_FREE if size < 0 else size for size in spec.shape[1:])
            row[alias] = _random(random, spec, (1, *free) if like is None else like[alias].shape)
        found.append(row)
    return found


def _random(random: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...]) -> np.ndarray:
    assert spec.dtype is not None
    if spec.dtype.is_string:
        array = np.empty(shape, object)
        array.reshape(-1)[:] = [b"%d" % n for n in random.integers(0, 100, array.size)]
        return array
    if spec.dtype.numpy.kind in "iub":
        return random.integers(0, 2, shape).astype(spec.dtype.numpy)
    return random.normal(size=shape).astype(spec.dtype.numpy)
