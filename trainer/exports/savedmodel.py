"""A trained module becomes a SavedModel with the names it promised, and with the variables it reads
and no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace.protocol import messages
from trainer.entry import Entry

_METHOD = "tensorflow/serving/{}"


def save(served: Any, entry: Entry, folder: Path) -> None:
    """Write ``served``, a tf.Module with one tf.function for each promised signature.

    What is saved is a bare module that holds the functions' variables, and the tables in which
    layers of text look up their words. Saved as it is, a module around a Keras 3 model makes a
    second variable of each Keras one, and the graph's own restore operation, all that a server has,
    fills only the copies: such a SavedModel answers in Python and fails everywhere else.
    """
    import tensorflow as tf

    functions = {name: getattr(served, name) for name in entry.signatures}
    read = {
        id(variable): variable
        for f in functions.values()
        for variable in f.get_concrete_function().variables
    }
    holder = tf.Module()
    # In an order that does not change from process to process, so that equal trainings make equal
    # files. A name may be that of several: layers of a subclassed model all call theirs kernel and
    # bias.
    holder.held = sorted(
        read.values(), key=lambda v: (v.name, v.shape.as_list(), v.numpy().tobytes())
    )
    holder.tables = list(_tables(served))
    tf.saved_model.save(holder, str(folder), signatures=functions)
    _name_methods(entry, folder)


def _tables(served: Any) -> Iterator[Any]:
    """Every lookup table below ``served``. TensorFlow saves those it finds by attributes, and fills
    them on loading."""
    import tensorflow as tf

    below = (tf.Module, tf.keras.layers.Layer, tf.keras.utils.FeatureSpace, dict, list, tuple)
    table = tf.saved_model.experimental.TrackableResource
    seen: set[int] = set()
    todo = [served]
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, table):
            yield thing
        elif isinstance(thing, dict):
            todo += thing.values()
        elif isinstance(thing, list | tuple):
            todo += thing
        elif isinstance(thing, below):
            todo += vars(thing).values()


def _name_methods(entry: Entry, folder: Path) -> None:
    """TensorFlow 2 calls every signature a predict one; TensorFlow Serving may insist on classify
    and regress."""
    path = folder / "saved_model.pb"
    saved = messages.parse(messages.SavedModel, path.read_bytes())
    for meta_graph in saved.meta_graphs:
        for name, promise in entry.signatures.items():
            meta_graph.signature_def[name].method_name = _METHOD.format(promise.method)
    path.write_bytes(saved.SerializeToString(deterministic=True))
