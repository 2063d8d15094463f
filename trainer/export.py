"""A trained module becomes a SavedModel with the names it promised, and with the variables it reads and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.entry import Entry


def save(served: Any, entry: Entry, folder: Path) -> None:
    """Write ``served``, a tf.Module with one tf.function for each promised signature.

    What is saved is a bare module that holds the functions' variables. Saved as it is, a module around a Keras 3 model
    makes a second variable of each Keras one, and the graph's own restore operation, all that a server has, fills only
    the copies: such a SavedModel answers in Python and fails everywhere else.
    """
    import tensorflow as tf

    functions = {name: getattr(served, name) for name in entry.signatures}
    read = {id(variable): variable for f in functions.values() for variable in f.get_concrete_function().variables}
    holder = tf.Module()
    holder.held = list(read.values())
    tf.saved_model.save(holder, str(folder), signatures=functions)
