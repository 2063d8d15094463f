"""What a model promises: TensorSpec and Signature, and check(), the one validator of gateway and
server."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from headrace.protocol import dtypes, faults
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import InvalidArgument
from headrace.protocol.faults import Fault, JsonPath

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
        return "(unknown rank)" if self.shape is None else shape_text(self.shape)


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
        return tuple(sorted(alias for alias in self.inputs if alias not in self.defaults))


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
    root = place or (("instances",) if row_format else ("inputs",))
    at = (*root, 0) if row_format else root
    for name in shapes:
        if name not in signature.inputs:
            facts = {
                "name": name,
                "names": ", ".join(sorted(signature.inputs)),
                "hint": near_name(name, signature.inputs),
            }
            _refuse(
                Fault(
                    "unknown_input", (*at, name), ", ".join(sorted(signature.inputs)), facts=facts
                )
            )
    if missing := [name for name in signature.required if name not in shapes]:
        first = missing[0]
        expected = (
            _promise(signature.inputs[first])
            if len(missing) == 1
            else ", ".join(sorted(signature.inputs))
        )
        _refuse(
            Fault(
                "missing_input",
                (*at, first),
                expected,
                missing_text(missing),
                facts={"name": first},
            )
        )
    batch: tuple[int, str] | None = None
    for name, (dtype, shape) in shapes.items():
        spec = signature.inputs[name]
        where = (*at, name) if named else at
        if spec.dtype is not None and dtype is not None and dtype is not spec.dtype:
            facts = {"hint": dtypes.cast_hint(dtype, spec.dtype)}
            _refuse(Fault("input_dtype", where, spec.dtype.word, dtype.word, facts=facts))
        if spec.shape is None:
            continue
        _check_shape(spec.shape, shape, where, rows_at=root if row_format else None)
        if spec.shape and spec.shape[0] < 0:
            if batch is not None and batch[0] != shape[0]:
                _refuse(
                    Fault("batch", where, f"{batch[0]} as in {batch[1]}", f"a batch of {shape[0]}")
                )
            batch = batch or (shape[0], name)


def near_name(name: str, known: Iterable[str]) -> str:
    """ " (did you mean x?)", or nothing if no known name is near."""
    near = difflib.get_close_matches(name[:64], list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def missing_text(names: Iterable[str]) -> str:
    return f"missing: {', '.join(names)}"


def shape_text(shape: Shape) -> str:
    """(3,), (28, 28, 1); a free dimension is written as ?."""
    inner = ", ".join("?" if d < 0 else str(d) for d in shape[:_SHOWN_DIMS])
    if len(shape) > _SHOWN_DIMS:
        return f"({inner}, ... {len(shape)} dimensions)"
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def described(signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """What callers can call, as a list of models shows it in JSON."""
    return {
        name: {
            "inputs": {alias: _described(spec) for alias, spec in signature.inputs.items()},
            "outputs": {alias: _described(spec) for alias, spec in signature.outputs.items()},
        }
        for name, signature in callable_ones(signatures).items()
    }


def callable_ones(signatures: Mapping[str, Signature]) -> dict[str, Signature]:
    """Without how a model is started, which TensorFlow keeps among its signatures too."""
    return {
        name: s for name, s in sorted(signatures.items()) if not name.startswith("__saved_model_")
    }


def from_signature_def(name: str, signature_def: Any) -> Signature:
    """A Signature from a SignatureDef message (ours or the official one)."""
    return Signature(
        name=name,
        inputs={alias: _spec(alias, info) for alias, info in sorted(signature_def.inputs.items())},
        outputs={
            alias: _spec(alias, info) for alias, info in sorted(signature_def.outputs.items())
        },
        method_name=signature_def.method_name,
        defaults=dict(signature_def.defaults),
    )


def fits(shape: Shape, wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(
        w < 0 or w == d for w, d in zip(wanted, shape, strict=True)
    )


def misfit(where: JsonPath, shape: Shape, wanted: Shape, *, rows: int | None = None) -> Fault:
    """A shape that does not fit, and what is probably the matter; ``rows`` says that it is one of
    so many instances."""
    facts = {"hint": _shape_hint(shape, wanted, rows)}
    return Fault(
        "input_shape", where, shape_text(wanted), f"shape {shape_text(shape)}", facts=facts
    )


def _shape_hint(shape: Shape, wanted: Shape, rows: int | None) -> str:
    if not shape and fits((1,), wanted):
        return WRAP_HINT
    if len(shape) == len(wanted) - 1:
        if rows is not None and len(shape) and fits((rows, *shape), wanted):
            return " (this looks like one instance: put it in a list)"
        if fits((*shape, 1), wanted):
            return " (one dimension is missing: the last, of 1)"
        if fits((1, *shape), wanted):
            return " (one dimension is missing: the first, of 1)"
        return " (one dimension is missing)" if _has_extra(wanted, shape) else ""
    if len(shape) == len(wanted) + 1 and rows is not None and fits(shape[1:], wanted):
        return " (one list too many: an instance is a single row)"
    if len(shape) == len(wanted) + 1 and _has_extra(shape, wanted):
        return " (one dimension too many)"
    return ""


def _has_extra(longer: Shape, shorter: Shape) -> bool:
    """Whether the one is the other with one dimension more, somewhere; -1 on either side matches
    anything."""
    return any(
        all(
            a == b or a < 0 or b < 0
            for a, b in zip(longer[:i] + longer[i + 1 :], shorter, strict=True)
        )
        for i in range(len(longer))
    )


def _check_shape(wanted: Shape, shape: Shape, where: JsonPath, *, rows_at: JsonPath | None) -> None:
    if fits(shape, wanted):
        return
    if rows_at is None:
        _refuse(misfit(where, shape, wanted))
    if not wanted:
        expected = "a single value: the input has no batch dimension, so send it under inputs"
        _refuse(Fault("input_shape", rows_at, expected, f"{shape[0]} instances"))
    if shape[1:] == wanted[1:]:
        _refuse(Fault("input_shape", rows_at, f"exactly {wanted[0]}", f"{shape[0]} instances"))
    _refuse(misfit(where, shape[1:], wanted[1:], rows=shape[0]))


def _promise(spec: TensorSpec) -> str:
    dtype = f"dtype {spec.dtype_number}" if spec.dtype is None else spec.dtype.word
    return f"{dtype} {spec.shape_text}"


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"dtype": str(spec.dtype), "shape": spec.shape}


def _refuse(fault: Fault) -> NoReturn:
    raise InvalidArgument(faults.our_text(fault), fault=fault)


def _spec(alias: str, info: Any) -> TensorSpec:
    shape = info.tensor_shape
    # No shape at all, as some old exports have it, promises nothing; it does not promise a scalar.
    is_unknown = shape.unknown_rank or not info.HasField("tensor_shape")
    dims = None if is_unknown else tuple(int(d.size) for d in shape.dim)
    return TensorSpec(alias, info.name, dtypes.by_number(info.dtype), dims, info.dtype)
