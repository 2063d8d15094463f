"""Classify and regress over one loaded model: which tensors a signature lends to them, and what its
outputs say.

Knows nothing of repositories or protocols, so that warm-up can ask a model nobody else can reach
yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.protocol import dtypes, messages
from headrace.protocol.errors import InvalidArgument, Unimplemented
from headrace.protocol.signatures import (
    DEFAULT_SIGNATURE,
    METHOD_CLASSIFY,
    METHOD_REGRESS,
    Signature,
)
from headrace.server.engines import LoadedModel

_INPUT = "inputs"
_CLASSES, _SCORES, _VALUES = "classes", "scores", "outputs"

Run = Callable[[Signature, Mapping[str, np.ndarray], Sequence[str]], dict[str, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Classes:
    """A row for each example: labels, "" where the model gives none, and as many scores."""

    labels: list[list[bytes]]
    scores: np.ndarray


@dataclass(frozen=True, slots=True)
class Values:
    """A number for each example."""

    values: np.ndarray


Result = Classes | Values


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of one signature; ``method`` is METHOD_CLASSIFY or METHOD_REGRESS."""

    method: str
    signature_name: str = ""

    @property
    def signature(self) -> str:
        return self.signature_name or DEFAULT_SIGNATURE


def infer(
    model: LoadedModel,
    task: Task,
    examples: Sequence[bytes],
    run: Run,
    *,
    check_method: bool = False,
) -> Result:
    """One task over serialized tf.Examples."""
    signature = model.signatures.get(task.signature)
    if signature is None:
        raise InvalidArgument(f"No signature was found with the name: {task.signature}")
    outputs = _outputs(model, signature, task.method, check_method=check_method)
    answer = run(signature, {_INPUT: _tensor(examples)}, outputs)
    return _result(task.method, answer, len(examples))


def infer_all(
    model: LoadedModel,
    tasks: Iterable[Task],
    examples: Sequence[bytes],
    run: Run,
    *,
    check_method: bool = False,
) -> list[Result]:
    """Several tasks over the same examples, in one run: each input tensor of their signatures is
    fed all of them."""
    methods: list[str] = []
    wanted: dict[str, tuple[Signature, Sequence[str]]] = {}
    for task in tasks:
        if task.signature in wanted:
            raise InvalidArgument(f"Duplicate evaluation of signature: {task.signature}")
        signature = model.signatures.get(task.signature)
        if signature is None:
            raise InvalidArgument(f"Requested signature not found in model graph: {task.signature}")
        methods.append(task.method)
        wanted[task.signature] = (
            signature,
            _outputs(model, signature, task.method, check_method=check_method),
        )
    joined = _joined(wanted)
    answer = run(joined, dict.fromkeys(joined.inputs, _tensor(examples)), tuple(joined.outputs))
    return [
        _result(
            method,
            {alias: answer[signature.outputs[alias].tensor_name] for alias in aliases},
            len(examples),
        )
        for method, (signature, aliases) in zip(methods, wanted.values(), strict=True)
    ]


def _joined(wanted: Mapping[str, tuple[Signature, Sequence[str]]]) -> Signature:
    """A signature of all tensors, by their names: what two tasks have in common is fed, or
    computed, once."""
    inputs = {s.inputs[_INPUT].tensor_name: s.inputs[_INPUT] for s, _ in wanted.values()}
    outputs = {
        s.outputs[alias].tensor_name: s.outputs[alias]
        for s, aliases in wanted.values()
        for alias in aliases
    }
    return Signature("+".join(sorted(wanted)), dict(sorted(inputs.items())), outputs)


def _outputs(
    model: LoadedModel, signature: Signature, method: str, *, check_method: bool
) -> Sequence[str]:
    """The outputs to fetch; or why the signature is no such one, in TensorFlow Serving's words."""
    if method not in (METHOD_CLASSIFY, METHOD_REGRESS):
        raise Unimplemented(f"Unsupported signature method_name: {method}")
    kind = "classification" if method == METHOD_CLASSIFY else "regression"
    if check_method and signature.method_name != method:
        raise InvalidArgument(
            f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    count = len(signature.outputs)
    if method == METHOD_REGRESS and count != 1:
        raise InvalidArgument("Expected one output Tensor.")
    if count not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {count}")
    if _INPUT not in signature.inputs:
        raise InvalidArgument(
            f"No {kind} inputs found in SignatureDef: {_debug_only(model, signature)}"
        )
    known = (_VALUES,) if method == METHOD_REGRESS else (_CLASSES, _SCORES)
    found = [alias for alias in known if alias in signature.outputs]
    if not found and method == METHOD_REGRESS:
        raise InvalidArgument(
            f"No regression outputs found in SignatureDef: {_debug_proto(model, signature)}"
        )
    if not found:
        raise InvalidArgument(
            'Expected classification signature outputs to contain at least one of "classes" or '
            '"scores". '
            f"Signature was: {_debug_proto(model, signature)}"
        )
    return found


# protobuf marks its debug texts, so that nobody reads them back; how many blanks follow is drawn by
# each process.


def _debug_only(model: LoadedModel, signature: Signature) -> str:
    return f"goo.gle/debugonly  \n{_printed(model, signature)}"


def _debug_proto(model: LoadedModel, signature: Signature) -> str:
    return f"goo.gle/debugproto    \n{_printed(model, signature)}"


def _printed(model: LoadedModel, signature: Signature) -> str:
    return messages.render_text(model.signature_defs[signature.name])


def _tensor(examples: Sequence[bytes]) -> np.ndarray:
    if not examples:
        raise InvalidArgument("Input is empty.")
    tensor = np.empty(len(examples), object)
    tensor[:] = examples
    return tensor


def _result(method: str, outputs: Mapping[str, np.ndarray], count: int) -> Result:
    if method == METHOD_REGRESS:
        return Values(_values(outputs[_VALUES], count))
    for alias, wanted in ((_CLASSES, dtypes.STRING), (_SCORES, dtypes.FLOAT)):
        if alias in outputs:
            _check_matrix(alias, outputs[alias], wanted.enum, count)
    classes, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    if classes is None:
        # One of them was asked for.
        assert scores is not None
        return Classes([[b""] * scores.shape[1] for _ in range(count)], scores)
    if scores is None:
        scores = np.zeros(classes.shape, np.float32)
    if classes.shape[1] != scores.shape[1]:
        raise InvalidArgument(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. "
            f"{scores.shape[1]}"
        )
    return Classes(classes.tolist(), scores)


def _check_matrix(alias: str, array: np.ndarray, wanted: str, count: int) -> None:
    if array.ndim != 2:
        raise InvalidArgument(
            f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}"
        )
    if _dtype(array) != wanted:
        raise InvalidArgument(f"Expected {alias} Tensor of {wanted}. Got: {_dtype(array)}")
    if len(array) != count:
        raise InvalidArgument(f"Expected {alias} output batch size of {count}. Got: {len(array)}")


def _values(array: np.ndarray, count: int) -> np.ndarray:
    if array.ndim != 1 and not (array.ndim == 2 and array.shape[1] == 1):
        raise InvalidArgument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape(array)}"
        )
    if len(array) != count:
        raise InvalidArgument(
            f"Input batch size did not match output batch size: {count} vs. {len(array)}"
        )
    if _dtype(array) != dtypes.FLOAT.enum:
        raise InvalidArgument(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype(array)}")
    return array.reshape(count)


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _dtype(array: np.ndarray) -> str:
    dtype: Any = dtypes.by_numpy(array.dtype)
    return str(dtype.enum)
