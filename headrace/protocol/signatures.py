"""What a model promises: TensorSpec and Signature, and check(), the one validator of gateway and
server."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.protocol import dtypes
from headrace.protocol.dtypes import DType
from headrace.protocol.faults import Fault, JsonPath
from headrace.protocol.refusals import refuse, refuse_fault

DEFAULT_SIGNATURE = "serving_default"
# The method names of signatures, as SavedModels have them.
METHOD_PREDICT = "tensorflow/serving/predict"
METHOD_CLASSIFY = "tensorflow/serving/classify"
METHOD_REGRESS = "tensorflow/serving/regress"

Shape = tuple[int, ...]

WRAP_HINT = " (wrap it in a list)"
_SHOWN_DIMS = 16


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: ``alias`` is what callers say, ``tensor_name`` what the graph says
    ("x:0").

    ``shape`` is None for an unknown rank; a dimension of -1 is free. ``dtype`` is None for one we
    do not carry.
    """

    alias: str
    tensor_name: str
    dtype: DType | None
    shape: Shape | None
    dtype_number: int = 0

    @property
    def shape_text(self) -> str:
        if self.shape is None:
            return "(unknown rank)"
        return shape_text(self.shape)


@dataclass(frozen=True, slots=True)
class Signature:
    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str = ""
    # Alias -> TensorProto.
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def required(self) -> tuple[str, ...]:
        aliases = self.inputs.keys() - self.defaults.keys()
        return tuple(sorted(aliases))


def check(
    signature: Signature,
    shapes: Mapping[str, tuple[DType | None, Shape]],
    *,
    place: JsonPath | None = None,
    row_format: bool | None = None,
    named: bool = True,
) -> None:
    """Refuses what the signature does not promise to take: names, dtypes, ranks, fixed dimensions,
    unequal batches.

    ``row_format`` says that the shapes lead with the number of instances; ``named`` that the caller
    wrote the names into the request, so that places may show them. ``place`` is where the inputs
    stand, ("inputs",) if not said.
    """
    if place:
        root = place
    elif row_format:
        root = ("instances",)
    else:
        root = ("inputs",)

    rows_at: JsonPath | None = None
    at = root
    if row_format:
        rows_at = root
        at = (*root, 0)

    _check_names(signature, shapes, at)
    _check_tensors(signature, shapes, at, rows_at=rows_at, named=named)


def _check_tensors(
    signature: Signature,
    shapes: Mapping[str, tuple[DType | None, Shape]],
    at: JsonPath,
    *,
    rows_at: JsonPath | None,
    named: bool,
) -> None:
    batch_size = -1
    batch_name = ""
    for name, (dtype, shape) in shapes.items():
        spec = signature.inputs[name]
        where = at
        if named:
            where = (*at, name)

        if spec.dtype is not None and dtype is not None and dtype is not spec.dtype:
            hint = dtypes.cast_hint(dtype, spec.dtype)
            refuse(
                "input_dtype",
                where,
                spec.dtype.word,
                dtype.word,
                hint=hint,
            )

        if spec.shape is None:
            continue
        _check_shape(spec.shape, shape, where, rows_at=rows_at)
        if not spec.shape or spec.shape[0] >= 0:
            continue
        if batch_size < 0:
            batch_size = shape[0]
            batch_name = name
        elif batch_size != shape[0]:
            expected = f"{batch_size} as in {batch_name}"
            refuse("batch", where, expected, f"a batch of {shape[0]}")


def _check_names(signature: Signature, names: Collection[str], at: JsonPath) -> None:
    known = ", ".join(sorted(signature.inputs))
    for name in names:
        if name not in signature.inputs:
            hint = near_name(name, signature.inputs)
            refuse(
                "unknown_input",
                (*at, name),
                known,
                name=name,
                names=known,
                hint=hint,
            )

    missing = [name for name in signature.required if name not in names]
    if not missing:
        return
    first = missing[0]
    expected = known
    if len(missing) == 1:
        expected = _summary(signature.inputs[first])
    refuse(
        "missing_input",
        (*at, first),
        expected,
        missing_text(missing),
        name=first,
    )


def near_name(name: str, known: Iterable[str]) -> str:
    """ " (did you mean x?)", or nothing if no known name is near."""
    near = difflib.get_close_matches(name[:64], list(known), n=1)
    if not near:
        return ""
    return f" (did you mean {near[0]}?)"


def missing_text(names: Iterable[str]) -> str:
    return f"missing: {', '.join(names)}"


def shape_text(shape: Shape) -> str:
    """(3,), (28, 28, 1); a free dimension is written as ?."""
    sizes = []
    for size in shape:
        if size < 0:
            sizes.append("?")
        else:
            sizes.append(str(size))

    if len(sizes) > _SHOWN_DIMS:
        shown = ", ".join(sizes[:_SHOWN_DIMS])
        return f"({shown}, ... {len(sizes)} dimensions)"
    if len(sizes) == 1:
        return f"({sizes[0]},)"
    shown = ", ".join(sizes)
    return f"({shown})"


def described(signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """What callers can call, as a list of models shows it in JSON."""
    by_name = {}
    for name, signature in callable_ones(signatures).items():
        by_name[name] = {
            "inputs": _described_specs(signature.inputs),
            "outputs": _described_specs(signature.outputs),
        }
    return by_name


def callable_ones(signatures: Mapping[str, Signature]) -> dict[str, Signature]:
    """Without how a model is started, which TensorFlow keeps among its signatures too."""
    by_name = {}
    for name in sorted(signatures):
        if not name.startswith("__saved_model_"):
            by_name[name] = signatures[name]
    return by_name


def from_signature_defs(signature_defs: Mapping[str, Any]) -> dict[str, Signature]:
    signatures = {}
    for name, message in signature_defs.items():
        signatures[name] = from_signature_def(name, message)
    return signatures


def from_signature_def(name: str, signature_def: Any) -> Signature:
    """A Signature from a SignatureDef message (ours or the official one)."""
    return Signature(
        name=name,
        inputs=_specs(signature_def.inputs),
        outputs=_specs(signature_def.outputs),
        method_name=signature_def.method_name,
        defaults=dict(signature_def.defaults),
    )


def fits(shape: Shape, promised: Shape) -> bool:
    if len(shape) != len(promised):
        return False
    for size, promised_size in zip(shape, promised, strict=True):
        if promised_size >= 0 and promised_size != size:
            return False
    return True


def misfit(where: JsonPath, shape: Shape, promised: Shape, *, rows: int | None = None) -> Fault:
    """A shape that does not fit, and what is probably the matter; ``rows`` says that it is one of
    so many instances."""
    hint = _shape_hint(shape, promised, rows)
    return Fault(
        "input_shape",
        where,
        expected=shape_text(promised),
        got=f"shape {shape_text(shape)}",
        facts={"hint": hint},
    )


def _shape_hint(shape: Shape, promised: Shape, rows: int | None) -> str:
    if not shape and fits((1,), promised):
        return WRAP_HINT
    if len(shape) == len(promised) - 1:
        return _missing_dimension_hint(shape, promised, rows)
    if len(shape) == len(promised) + 1:
        return _extra_dimension_hint(shape, promised, rows)
    return ""


def _missing_dimension_hint(shape: Shape, promised: Shape, rows: int | None) -> str:
    if rows is not None and shape:
        all_rows = (rows, *shape)
        if fits(all_rows, promised):
            return " (this looks like one instance: put it in a list)"
    if fits((*shape, 1), promised):
        return " (one dimension is missing: the last, of 1)"
    if fits((1, *shape), promised):
        return " (one dimension is missing: the first, of 1)"
    if _has_extra(promised, shape):
        return " (one dimension is missing)"
    return ""


def _extra_dimension_hint(shape: Shape, promised: Shape, rows: int | None) -> str:
    if rows is not None and fits(shape[1:], promised):
        return " (one list too many: an instance is a single row)"
    if _has_extra(shape, promised):
        return " (one dimension too many)"
    return ""


def _has_extra(longer: Shape, shorter: Shape) -> bool:
    """Whether one is the other with one dimension more, somewhere; -1 on either side matches
    anything."""
    for i in range(len(longer)):
        without_one = longer[:i] + longer[i + 1 :]
        if _alike(without_one, shorter):
            return True
    return False


def _alike(one: Shape, other: Shape) -> bool:
    for a, b in zip(one, other, strict=True):
        if a != b and a >= 0 and b >= 0:
            return False
    return True


def _check_shape(
    promised: Shape, shape: Shape, where: JsonPath, *, rows_at: JsonPath | None
) -> None:
    if fits(shape, promised):
        return
    if rows_at is None:
        refuse_fault(misfit(where, shape, promised))

    row_count = shape[0]
    got = f"{row_count} instances"
    if not promised:
        expected = "a single value: the input has no batch dimension, so send it under inputs"
        refuse("input_shape", rows_at, expected, got)
    row_shape = shape[1:]
    promised_row = promised[1:]
    if row_shape == promised_row:
        refuse("input_shape", rows_at, f"exactly {promised[0]}", got)
    refuse_fault(misfit(where, row_shape, promised_row, rows=row_count))


def _summary(spec: TensorSpec) -> str:
    if spec.dtype is None:
        return f"dtype {spec.dtype_number} {spec.shape_text}"
    return f"{spec.dtype.word} {spec.shape_text}"


def _described_specs(specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    by_alias = {}
    for alias, spec in specs.items():
        by_alias[alias] = {
            "dtype": str(spec.dtype),
            "shape": spec.shape,
        }
    return by_alias


def _specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    specs = {}
    for alias in sorted(infos):
        specs[alias] = _spec(alias, infos[alias])
    return specs


def _spec(alias: str, info: Any) -> TensorSpec:
    shape: Shape | None = None
    # No shape at all, as some old exports have it, promises nothing; it does not promise a scalar.
    if info.HasField("tensor_shape") and not info.tensor_shape.unknown_rank:
        shape = tuple(int(dim.size) for dim in info.tensor_shape.dim)
    return TensorSpec(
        alias=alias,
        tensor_name=info.name,
        dtype=dtypes.by_number(info.dtype),
        shape=shape,
        dtype_number=info.dtype,
    )
