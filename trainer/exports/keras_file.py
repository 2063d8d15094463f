"""Exports a model that Keras saved, a .keras or .h5 file, as a SavedModel.

`python -m trainer.exports.keras_file FILE FOLDER` does it in a process of its own, without running
any code of the model's author, and prints the outcome as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from headrace.store.card import Card
from trainer import child
from trainer.entry import Arrays
from trainer.errors import NotAvailable, Usage
from trainer.exports import golden
from trainer.settings import Tell

SUFFIXES = (".keras", ".h5", ".hdf5")
_HDF5 = b"\x89HDF\r\n\x1a\n"
# Between the export's answers and Keras's own: a graph is fused, a call of Keras's layers is not.
_TOLERANCE = 1e-4
# The size of an example's batch, and of any other free dimension.
_ROWS, _FREE = 2, 8
_UNKNOWN = re.compile(r"(?:Could not locate (?:class|function)|Unknown \w+:) '(?:[^'>]*>)?([^']+)'")


def export(file: Path, folder: Path, *, tell: Tell) -> Card:
    """Fill the folder; returns what the card can say of it.

    Raises Usage when the model can only be exported by its author's code.
    """
    _check(file)
    ended = child.run("trainer.exports.keras_file", file.resolve(), folder)
    if ended.trouble:
        raise Usage(f"{file} could not be exported: {_by_hand(file, ended.trouble)}")
    outcome = json.loads(ended.output.splitlines()[-1])
    if outcome["not_installed"]:
        raise NotAvailable("TensorFlow is not installed: pip install 'headrace[train]'")
    if outcome["refused"]:
        advice = _by_hand(file, outcome["refused"])
        raise Usage(f"{file} cannot be exported without its author's code: {advice}")
    tell(f"  exported from {file}")
    if outcome["no_example"]:
        tell(
            "  Keras itself cannot answer a made-up request, so answers are not compared: "
            f"{outcome['no_example']}"
        )
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    return {
        "exported": {"from": file.name, "sha256": sha256, "keras": outcome["keras"]},
        "tolerance": _TOLERANCE,
    }


def _check(file: Path) -> None:
    """Checked here, because Keras says of a damaged file that it does not exist."""
    if file.suffix == ".keras":
        is_valid = zipfile.is_zipfile(file)
        kind = "a zip archive"
    else:
        with file.open("rb") as opened:
            is_valid = opened.read(len(_HDF5)) == _HDF5
        kind = "an HDF5 file"
    if not is_valid:
        raise Usage(f"{file} is not a Keras model, or not whole: expected {kind}")


def _by_hand(file: Path, reason: str) -> str:
    """The reason, and the lines of Python that export the model."""
    unknown = _UNKNOWN.search(reason)
    if "Lambda" in reason:
        first = "import keras"
        load = f'model = keras.models.load_model("{file}", safe_mode=False)  # runs its code'
    elif unknown:
        name = unknown[1]
        first = f"import keras; from your_code import {name}"
        load = f'model = keras.models.load_model("{file}", custom_objects={{"{name}": {name}}})'
    else:
        first = "model = build()  # by your own code, called once on data"
        load = f'model.load_weights("{file}")'
    lines = (
        reason,
        f"    {first}",
        f"    {load}",
        '    model.export("exported")',
        'and then publish the folder "exported"',
    )
    return "\n".join(lines).lstrip()


def main(file: str, folder: str) -> None:
    """Runs in the child process."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    outcome: dict[str, Any] = {
        "not_installed": False,
        "refused": None,
        "no_example": None,
        "keras": None,
    }
    try:
        import keras

        outcome["keras"] = keras.__version__
        outcome |= _export(keras, Path(file), Path(folder))
    except ModuleNotFoundError as error:
        if error.name not in ("keras", "tensorflow"):
            raise
        outcome["not_installed"] = True
    print(json.dumps(outcome))


def _export(keras: Any, file: Path, folder: Path) -> dict[str, str]:
    """Why it was refused, or has no example; {} when all went well."""
    try:
        model = keras.models.load_model(file, custom_objects=None, compile=False, safe_mode=True)
    except Exception as error:
        # Keras raises many types, one for each thing that can be wrong with a model.
        return {"refused": _reason(error)}
    # A Sequential that was never built raises AttributeError here.
    if not getattr(model, "inputs", None):
        return {"refused": "it was saved before its inputs were known"}
    model.export(folder, verbose=False)
    examples = {tensor.name: _example(tensor) for tensor in model.inputs}
    try:
        outputs = _answers(keras, model, examples)
    except Exception as error:
        if type(error).__name__ == "FailedPreconditionError":
            # TensorFlow's error for a table that was never filled.
            reason = "its layers lack what the file does not hold, a vocabulary say"
            return {"refused": f"{reason}; a .keras file holds it"}
        # The model may not be meant for such inputs: it is published without an example.
        return {"no_example": f"{type(error).__name__}: {_reason(error)}"}
    answers = {alias: np.asarray(tensor) for alias, tensor in outputs.items()}
    golden.write([golden.from_arrays("serving_default", examples, answers)], folder)
    return {}


def _reason(error: Exception) -> str:
    """The first sentence; Keras prints whole configs after it."""
    text = str(error).rpartition("Exception encountered: ")[2].strip()
    return re.split(r"\.\s|\n", text, maxsplit=1)[0]


def _answers(keras: Any, model: Any, examples: Arrays) -> dict[str, Any]:
    """The model's answers, under the names that the export gives them."""
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    inputs = keras.tree.map_structure(
        lambda tensor: keras.ops.convert_to_tensor(examples[tensor.name]), structure
    )
    outputs = model(inputs, training=False)
    if isinstance(outputs, dict):
        return outputs
    return {f"output_{index}": tensor for index, tensor in enumerate(keras.tree.flatten(outputs))}


def _example(tensor: Any) -> np.ndarray:
    shape = [size or _FREE for size in tensor.shape]
    if shape and tensor.shape[0] is None:
        shape[0] = _ROWS
    if tensor.dtype == "string":
        return np.full(shape, b"a", object)
    if "float" in tensor.dtype:
        return np.linspace(0, 1, int(np.prod(shape)), dtype="float32").reshape(shape)
    return np.zeros(shape, tensor.dtype)


if __name__ == "__main__":
    main(*sys.argv[1:])
