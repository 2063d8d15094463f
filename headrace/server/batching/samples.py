"""The second half of the proof: rows must get the same answers alone and among others.

The rows come from the requests that a version brings (warm-up and golden ones), or are made up from
the signature. Samples alone would prove nothing, but a graph that only looks row-wise fails them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.protocol.errors import HeadraceError
from headrace.protocol.signatures import Signature, TensorSpec
from headrace.server.batching import batches
from headrace.server.engines import Arrays, LoadedModel
from headrace.server.lifecycle import warmup
from headrace.store import golden, records

log = logging.getLogger(__name__)

_MAX_ROWS = 8
# Larger files are not searched for samples.
_MAX_FILE_BYTES = 64 << 20
# The batch sizes that are tried.
_SIZES = (8, 5, 3, 2)
# The time for one signature. A slow model gets fewer sizes, but at least one.
_BUDGET_S = 0.5
# The size that samples have in a free dimension.
_FREE_SIZE = 4
# Relative and absolute tolerance of floats, by their size in bytes.
_TOLERANCES = {
    2: (2e-2, 2e-2),
    4: (1e-4, 1e-5),
    8: (1e-8, 1e-10),
}

# What a golden file that nobody has checked may raise.
_UNREADABLE = (
    HeadraceError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
)

# The inputs of a row and its outputs when it runs alone.
_Answered = tuple[Arrays, Arrays]


def disagreement(model: LoadedModel, signature: Signature, rows: Sequence[Arrays]) -> str | None:
    """How answers differ when these single rows run together; None where they do not."""
    answered: list[_Answered] = []
    output_names = tuple(signature.outputs)
    problem = "there are no sample rows: the version has none, and none can be made up"
    until = time.monotonic() + _BUDGET_S
    for row in rows:
        try:
            outputs = model.run(signature, row, output_names)
            answered.append((row, outputs))
        except HeadraceError as error:
            problem = f"no sample row can be run: {error.message}"
        if time.monotonic() > until and len(answered) > 1:
            break
    if not answered:
        return problem
    while len(answered) < _SIZES[-1]:
        answered.append(answered[0])

    backwards = answered[::-1]
    until = time.monotonic() + _BUDGET_S
    for size in _SIZES:
        if size <= len(answered):
            difference = _difference(model, signature, answered[:size])
            if not difference:
                difference = _difference(model, signature, backwards[:size])
            if difference:
                return difference
        if time.monotonic() > until:
            break
    return None


def read(folder: Path, signature: Signature) -> list[Arrays]:
    """Single rows of one shape for the signature: recorded ones first, then made-up ones."""
    candidates: list[Arrays] = []
    requests = (*_recorded(folder, signature), *_golden(folder, signature))
    for request in requests:
        if not batches.has_dtypes(signature, request):
            continue
        if batches.has_shapes(signature, request):
            candidates.extend(_rows(request))
        if len(candidates) >= _MAX_ROWS:
            break
    if not candidates:
        return _made_up(signature, like=None)

    first = candidates[0]
    shapes = _shapes(first)
    rows = []
    for row in candidates[:_MAX_ROWS]:
        if _shapes(row) == shapes:
            rows.append(row)
    rows.extend(_made_up(signature, like=first))
    return rows[:_MAX_ROWS]


def _rows(request: Arrays) -> Iterator[Arrays]:
    counts = [len(array) for array in request.values()]
    for i in range(min(counts, default=0)):
        row = {}
        for alias, array in request.items():
            row[alias] = array[i : i + 1]
        yield row


def _difference(
    model: LoadedModel, signature: Signature, answered: Sequence[_Answered]
) -> str | None:
    """How the rows are answered differently as one batch."""
    count = len(answered)
    merged = {}
    for alias in signature.inputs:
        column = [row[alias] for row, _ in answered]
        merged[alias] = np.concatenate(column)
    try:
        outputs = model.run(signature, merged, tuple(signature.outputs))
    except HeadraceError as error:
        return f"{count} rows do not run together: {error.message}"

    for alias, array in outputs.items():
        if array.shape[:1] != (count,):
            return f"{count} rows have {alias} of shape {list(array.shape)}"
        for i, (_, alone) in enumerate(answered):
            among_others = array[i : i + 1]
            if not _agree(among_others, alone[alias]):
                return f"a row gets another {alias} among {count} rows than alone"
    return None


def _agree(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return False
    kind = one.dtype.kind
    if kind in "OSUbiu":
        return bool(np.array_equal(one, other))

    float_bytes = one.dtype.itemsize
    wide: type[np.generic] = np.float64
    if kind == "c":
        # Two floats.
        float_bytes //= 2
        wide = np.complex128
    relative, absolute = _TOLERANCES.get(float_bytes, _TOLERANCES[4])
    is_close = np.allclose(
        one.astype(wide),
        other.astype(wide),
        rtol=relative,
        atol=absolute,
        equal_nan=True,
    )
    return bool(is_close)


def _recorded(folder: Path, signature: Signature) -> Iterator[Arrays]:
    """From the version's warm-up file. Where warm-up is turned off nobody has checked the file, so
    what can be read of it is enough."""
    path = folder / warmup.FILE
    if not path.is_file() or path.stat().st_size > _MAX_FILE_BYTES:
        return
    try:
        with path.open("rb") as file:
            for data in records.read(file):
                inputs = warmup.recorded(data, signature)
                if inputs is not None:
                    yield inputs
    except HeadraceError as error:
        fields = {"file": str(path), "reason": error.message}
        log.warning("recorded requests are not read", extra=fields)


def _golden(folder: Path, signature: Signature) -> Iterator[Arrays]:
    try:
        for request in golden.read(folder, max_bytes=_MAX_FILE_BYTES):
            if request.signature_name != signature.name:
                continue
            if request.inputs.keys() != signature.inputs.keys():
                continue
            arrays = {}
            for alias, value in request.inputs.items():
                arrays[alias] = _array(value, signature.inputs[alias])
            yield arrays
    except _UNREADABLE as error:
        fields = {"file": str(folder / golden.FILE), "reason": str(error)}
        log.warning("golden requests are not read", extra=fields)


def _array(value: Any, spec: TensorSpec) -> np.ndarray:
    dtype = None
    if spec.dtype is not None:
        dtype = spec.dtype.numpy
    return np.array(golden.with_bytes(value), dtype)


def _shapes(row: Arrays) -> dict[str, tuple[int, ...]]:
    return {alias: array.shape for alias, array in row.items()}


def _made_up(signature: Signature, *, like: Arrays | None) -> list[Arrays]:
    """Different rows, the same at every load."""
    random = np.random.default_rng(7)
    rows: list[Arrays] = []
    for _ in range(_MAX_ROWS):
        row: dict[str, np.ndarray] = {}
        for alias, spec in signature.inputs.items():
            if spec.dtype is None or not spec.shape:
                return []
            if like is not None:
                shape = like[alias].shape
            else:
                shape = _sample_shape(spec.shape)
            row[alias] = _random(random, spec, shape)
        rows.append(row)
    return rows


def _sample_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """That of a single row."""
    sizes = [1]
    for size in shape[1:]:
        if size < 0:
            size = _FREE_SIZE
        sizes.append(size)
    return tuple(sizes)


def _random(random: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...]) -> np.ndarray:
    """Small whole numbers for integers, which may be indices."""
    assert spec.dtype is not None
    if spec.dtype.is_string:
        array = np.empty(shape, object)
        numbers = random.integers(0, 100, array.size)
        flat = array.reshape(-1)
        flat[:] = [b"%d" % number for number in numbers]
        return array

    dtype = spec.dtype.numpy
    if dtype.kind in "iub":
        integers = random.integers(0, 2, shape)
        return integers.astype(dtype)
    reals = random.normal(size=shape)
    return reals.astype(dtype)
