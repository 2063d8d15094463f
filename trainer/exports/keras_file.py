"""A model that Keras saved, a .keras or .h5 file, becomes a SavedModel, in a process that runs no
code of its author.

`python -m trainer.exports.keras_file FILE FOLDER` loads and exports, and prints as JSON what it
refused, if anything.
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

from trainer import child
from trainer.entry import Arrays
from trainer.errors import NotAvailable, Usage
from trainer.exports import golden
from trainer.exports.card import Card
from trainer.settings import Tell

SUFFIXES = (".keras", ".h5", ".hdf5")
_HDF5 = b"\x89HDF\r\n\x1a\n"
# Of the export's answers beside Keras's own: a graph is fused, a call of Keras's layers is not.
_TOLERANCE = 1e-4
# Of an example: its batch, and any other dimension that is free.
_ROWS, _FREE = 2, 8
_UNKNOWN = re.compile(r"(?:Could not locate (?:class|function)|Unknown \w+:) '(?:[^'>]*>)?([^']+)'")


def export(file: Path, folder: Path, *, tell: Tell) -> Card:
    """Fills the folder; what its card can say of it. Raises Usage where a person has to export
    it."""
    _check(file)
    ended = child.run("trainer.exports.keras_file", file.resolve(), folder)
    if ended.trouble:
        raise Usage(f"{file} could not be exported: {_by_hand(file, ended.trouble)}")
    found = json.loads(ended.output.splitlines()[-1])
    if found["missing"]:
        raise NotAvailable("TensorFlow is not installed: pip install 'headrace[train]'")
    if found["refused"]:
        raise Usage(
            f"{file} cannot be exported without its author's code: "
            f"{_by_hand(file, found['refused'])}"
        )
    tell(f"  exported from {file}")
    if found["no_example"]:
        tell(
            "  Keras itself cannot answer a made-up request, so answers are not compared: "
            f"{found['no_example']}"
        )
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    return {
        "exported": {"from": file.name, "sha256": sha256, "keras": found["keras"]},
        "tolerance": _TOLERANCE,
    }


def _check(file: Path) -> None:
    """Keras itself says of a damaged file that it is not there."""
    is_zip = file.suffix == ".keras"
    with file.open("rb") as opened:
        is_hdf5 = opened.read(len(_HDF5)) == _HDF5
    if not (zipfile.is_zipfile(file) if is_zip else is_hdf5):
        kind = "a zip archive" if is_zip else "an HDF5 file"
        raise Usage(f"{file} is not a Keras model, or not whole: expected {kind}")


def _by_hand(file: Path, reason: str) -> str:
    """The reason, and the lines of Python that a person has to write instead."""
    unknown = _UNKNOWN.search(reason)
    if "Lambda" in reason:
        first, load = (
            "import keras",
            f'model = keras.models.load_model("{file}", safe_mode=False)  # runs its code',
        )
    elif unknown:
        name = unknown[1]
        first = f"import keras; from your_code import {name}"
        load = f'model = keras.models.load_model("{file}", custom_objects={{"{name}": {name}}})'
    else:
        first, load = (
            "model = build()  # by your own code, called once on data",
            f'model.load_weights("{file}")',
        )
    lines = (first, load, 'model.export("exported")')
    return "\n".join(
        [reason, *(f"    {line}" for line in lines), 'and then publish the folder "exported"']
    ).lstrip()


def main(file: str, folder: str) -> None:
    """What the child does."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    found = {"missing": False, "refused": "", "no_example": "", "keras": ""}
    try:
        import keras

        found["keras"] = keras.__version__
        found |= _export(keras, Path(file), Path(folder))
    except ModuleNotFoundError as error:
        if error.name not in ("keras", "tensorflow"):
            raise
        found["missing"] = True
    print(json.dumps(found))


def _export(keras: Any, file: Path, folder: Path) -> dict[str, str]:
    """Why it cannot be done, or why without an example; nothing where all was."""
    try:
        model = keras.models.load_model(file, custom_objects=None, compile=False, safe_mode=True)
    except Exception as error:
        # A type for each thing that can be wrong with a model.
        return {"refused": _reason(error)}
    # An unbuilt Sequential raises.
    if not getattr(model, "inputs", None):
        return {"refused": "it was saved before its inputs were known"}
    model.export(folder, verbose=False)
    examples = {tensor.name: _example(tensor) for tensor in model.inputs}
    try:
        outputs = _answers(keras, model, examples)
    except Exception as error:
        # Perhaps not what the model is meant for: it is published without an example.
        if type(error).__name__ == "FailedPreconditionError":
            # TensorFlow's, of a table that nobody filled.
            return {
                "refused": (
                    "its layers lack what the file does not hold, a vocabulary say; a "
                    ".keras file holds it"
                )
            }
        return {"no_example": f"{type(error).__name__}: {_reason(error)}"}
    request = {
        "signature_name": "serving_default",
        "inputs": {alias: golden.to_json(array) for alias, array in examples.items()},
        "outputs": {alias: golden.to_json(np.asarray(tensor)) for alias, tensor in outputs.items()},
    }
    golden.write([request], folder)
    return {}


def _reason(error: Exception) -> str:
    """Keras prints whole configs after it."""
    text = str(error).rpartition("Exception encountered: ")[2].strip()
    return re.split(r"\.\s|\n", text, maxsplit=1)[0]


def _answers(keras: Any, model: Any, examples: Arrays) -> dict[str, Any]:
    """By the names that the export gives them."""
    wanted = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    inputs = keras.tree.map_structure(
        lambda tensor: keras.ops.convert_to_tensor(examples[tensor.name]), wanted
    )
    outputs = model(inputs, training=False)
    if isinstance(outputs, dict):
        return outputs
    return {f"output_{index}": tensor for index, tensor in enumerate(keras.tree.flatten(outputs))}


def _example(tensor: Any) -> np.ndarray:
    shape = tuple(size or (_FREE if at else _ROWS) for at, size in enumerate(tensor.shape))
    if tensor.dtype == "string":
        return np.full(shape, b"a", object)
    if "float" in tensor.dtype:
        return np.linspace(0, 1, int(np.prod(shape)), dtype="float32").reshape(shape)
    return np.zeros(shape, tensor.dtype)


if __name__ == "__main__":
    main(*sys.argv[1:])
