"""Saves a trained module as a SavedModel with exactly the signatures and variables it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace.protocol import messages
from trainer.entry import Entry

_METHOD = "tensorflow/serving/{}"


def save(served: Any, entry: Entry, folder: Path) -> None:
    """Write ``served``, a tf.Module with one tf.function for each of the entry's signatures.

    What is saved is a bare module that holds the functions' variables, and the tables in which
    layers of text look up their words. Saved as it is, a module around a Keras 3 model makes a
    second variable of each Keras one, and the graph's own restore operation, all that a server has,
    fills only the copies: such a SavedModel answers in Python and fails everywhere else.
    """
    import tensorflow as tf

    functions = {name: getattr(served, name) for name in entry.signatures}
    variables = {}
    for function in functions.values():
        for variable in function.get_concrete_function().variables:
            variables[id(variable)] = variable
    module = tf.Module()
    module.held = sorted(variables.values(), key=_sort_key)
    module.tables = list(_tables(served))
    tf.saved_model.save(module, str(folder), signatures=functions)
    _set_method_names(entry, folder)


def _sort_key(variable: Any) -> tuple[Any, ...]:
    """An order that is the same in every process, so that equal trainings make equal files.

    The name is not enough: all layers of a subclassed model call theirs kernel and bias.
    """
    return variable.name, variable.shape.as_list(), variable.numpy().tobytes()


def _tables(served: Any) -> Iterator[Any]:
    """Every lookup table below ``served``.

    TensorFlow saves those that it finds by attributes, and fills them on loading.
    """
    import tensorflow as tf

    containers = (tf.Module, tf.keras.layers.Layer, tf.keras.utils.FeatureSpace)
    table = tf.saved_model.experimental.TrackableResource
    visited: set[int] = set()
    pending = [served]
    while pending:
        item = pending.pop()
        if id(item) in visited:
            continue
        visited.add(id(item))
        if isinstance(item, table):
            yield item
        elif isinstance(item, dict):
            pending += item.values()
        elif isinstance(item, list | tuple):
            pending += item
        elif isinstance(item, containers):
            pending += vars(item).values()


def _set_method_names(entry: Entry, folder: Path) -> None:
    """TensorFlow 2 marks all signatures as predict; TensorFlow Serving may insist on the others."""
    path = folder / "saved_model.pb"
    saved_model = messages.parse(messages.SavedModel, path.read_bytes())
    for meta_graph in saved_model.meta_graphs:
        for name, spec in entry.signatures.items():
            meta_graph.signature_def[name].method_name = _METHOD.format(spec.method)
    path.write_bytes(saved_model.SerializeToString(deterministic=True))
