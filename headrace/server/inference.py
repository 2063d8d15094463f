"""Classify and regress over one loaded model: checks the signature, runs it, and reads its outputs.

Knows nothing of repositories and protocols, so that warm-up can use it on a model that does not
serve yet.
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
    TensorSpec,
)
from headrace.server.engines import Arrays, LoadedModel

_INPUT = "inputs"
_CLASSES, _SCORES, _VALUES = "classes", "scores", "outputs"

Run = Callable[[Signature, Arrays, Sequence[str]], Arrays]


@dataclass(frozen=True, slots=True)
class Classes:
    """For each example a row of labels, empty where the model gives none, and a row of scores."""

    labels: list[list[bytes]]
    scores: np.ndarray


@dataclass(frozen=True, slots=True)
class Values:
    """One number for each example."""

    values: np.ndarray


Result = Classes | Values


@dataclass(frozen=True, slots=True)
class Task:
    """One signature to run; ``method`` is METHOD_CLASSIFY or METHOD_REGRESS."""

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
    arrays = run(signature, {_INPUT: _tensor(examples)}, outputs)
    return _result(task.method, arrays, len(examples))


def infer_all(
    model: LoadedModel,
    tasks: Iterable[Task],
    examples: Sequence[bytes],
    run: Run,
    *,
    check_method: bool = False,
) -> list[Result]:
    """Several tasks over the same examples in one run."""
    fetches: dict[str, _Fetch] = {}
    for task in tasks:
        name = task.signature
        if name in fetches:
            raise InvalidArgument(f"Duplicate evaluation of signature: {name}")
        signature = model.signatures.get(name)
        if signature is None:
            raise InvalidArgument(f"Requested signature not found in model graph: {name}")
        aliases = _outputs(model, signature, task.method, check_method=check_method)
        fetches[name] = _Fetch(task.method, signature, aliases)
    joined = _joined_signature(fetches)
    inputs = dict.fromkeys(joined.inputs, _tensor(examples))
    arrays = run(joined, inputs, tuple(joined.outputs))
    results = []
    for fetch in fetches.values():
        outputs = {}
        for alias in fetch.aliases:
            outputs[alias] = arrays[fetch.signature.outputs[alias].tensor_name]
        results.append(_result(fetch.method, outputs, len(examples)))
    return results


@dataclass(frozen=True, slots=True)
class _Fetch:
    """The outputs that one of several tasks needs."""

    method: str
    signature: Signature
    aliases: Sequence[str]


def _joined_signature(fetches: Mapping[str, _Fetch]) -> Signature:
    """A signature of all the tensors, by their names, so that a tensor that two tasks share is fed
    or computed once."""
    inputs: dict[str, TensorSpec] = {}
    outputs: dict[str, TensorSpec] = {}
    for fetch in fetches.values():
        spec = fetch.signature.inputs[_INPUT]
        inputs[spec.tensor_name] = spec
        for alias in fetch.aliases:
            spec = fetch.signature.outputs[alias]
            outputs[spec.tensor_name] = spec
    return Signature("+".join(sorted(fetches)), dict(sorted(inputs.items())), outputs)


def _outputs(
    model: LoadedModel, signature: Signature, method: str, *, check_method: bool
) -> Sequence[str]:
    """The outputs to fetch. Raises, in TensorFlow Serving's words, why the signature does not fit
    the method."""
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
    expected = (_VALUES,) if method == METHOD_REGRESS else (_CLASSES, _SCORES)
    aliases = [alias for alias in expected if alias in signature.outputs]
    if aliases:
        return aliases
    text = _debug_proto(model, signature)
    if method == METHOD_REGRESS:
        raise InvalidArgument(f"No regression outputs found in SignatureDef: {text}")
    raise InvalidArgument(
        'Expected classification signature outputs to contain at least one of "classes" or '
        f'"scores". Signature was: {text}'
    )


# protobuf marks its debug texts, so that no program relies on them; the number of blanks after the
# mark is random in each process.


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


def _result(method: str, outputs: Arrays, count: int) -> Result:
    if method == METHOD_REGRESS:
        return Values(_values(outputs[_VALUES], count))
    classes, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    if classes is not None:
        _check_matrix(_CLASSES, classes, dtypes.STRING.enum, count)
    if scores is not None:
        _check_matrix(_SCORES, scores, dtypes.FLOAT.enum, count)
    if classes is None:
        # At least one of the two was fetched.
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


def _check_matrix(alias: str, array: np.ndarray, dtype: str, count: int) -> None:
    if array.ndim != 2:
        raise InvalidArgument(
            f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}"
        )
    if _dtype(array) != dtype:
        raise InvalidArgument(f"Expected {alias} Tensor of {dtype}. Got: {_dtype(array)}")
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
