"""Exports one model of every kind that TensorFlow Serving runs, with TensorFlow: ``export_kinds.py
FOLDER [NAME...]``.

Run in a child process, as export.py is. ``heavy`` (200 MB of weights) is exported only when it is
named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1

WORDS = ["river", "mill", "wheel"]


def words_tf2(folder: Path) -> None:
    """Keras' TextVectorization inside the graph, its vocabulary with it: 0 is padding, 1 an unknown
    word."""
    layer = tf.keras.layers.TextVectorization(vocabulary=WORDS, output_sequence_length=4)
    module = tf.Module()
    module.layer = layer
    _save(
        module,
        folder,
        serving_default=(lambda text: {"ids": layer(text)}, {"text": _spec(tf.string)}),
    )


def table_tf2(folder: Path) -> None:
    """A table read from a file in assets/: a word becomes its line."""
    module = tf.Module()
    module.file = tf.saved_model.Asset(_vocabulary(folder.parent / "words.txt"))
    lines = tf.lookup.TextFileInitializer(
        *(
            module.file,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
    )
    module.table = tf.lookup.StaticHashTable(lines, -1)
    _save(
        module,
        folder,
        serving_default=(
            lambda word: {"line": module.table.lookup(word)},
            {"word": _spec(tf.string)},
        ),
    )


def table_tf1(folder: Path) -> None:
    """The same as a TF1 export: the table is filled by an operation that runs once the model is
    loaded."""
    with tf.Graph().as_default(), v1.Session() as session:
        file = _vocabulary(folder.parent / "words.txt")
        word = v1.placeholder(tf.string, [None], name="word")
        lines = tf.lookup.TextFileInitializer(
            *(
                file,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
        )
        line = tf.lookup.StaticHashTable(lines, -1).lookup(word)
        scale = v1.Variable(10, dtype=tf.int64, use_resource=True, name="scale")
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        info = v1.saved_model.build_tensor_info
        signature = v1.saved_model.build_signature_def(
            {"word": info(word)},
            {"line": info(line), "ten": info(line * scale)},
            "tensorflow/serving/predict",
        )
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={"serving_default": signature},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()


def examples_tf2(folder: Path) -> None:
    """tf.Examples parsed in the graph: floats, a word with a default, a list of any length."""

    def answer(examples: Any) -> dict[str, Any]:
        parsed = tf.io.parse_example(
            examples,
            {
                "x": tf.io.FixedLenFeature([2], tf.float32),
                "word": tf.io.FixedLenFeature([], tf.string, "none"),
                "many": tf.io.VarLenFeature(tf.int64),
            },
        )
        many = tf.sparse.reduce_sum(parsed["many"], 1)
        return {"sum": tf.reduce_sum(parsed["x"], 1), "word": parsed["word"], "many": many}

    _save(tf.Module(), folder, serving_default=(answer, {"examples": _spec(tf.string)}))


def half_plus_two_tf2(folder: Path) -> None:
    """TF Serving's toy in its TF2 form: each signature is a function, with an input tensor of its
    own."""
    module = tf.Module()
    module.half, module.two = tf.Variable(0.5), tf.Variable(2.0)

    def y(inputs: Any) -> Any:
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        return module.half * x + module.two

    examples = {"inputs": _spec(tf.string)}
    _save(
        module,
        folder,
        serving_default=(
            lambda x: {"y": module.half * x + module.two},
            {"x": _spec(tf.float32, None, 1)},
        ),
        regress_x_to_y=(lambda inputs: {"outputs": y(inputs)}, examples),
        classify_x_to_y=(lambda inputs: {"scores": y(inputs)}, examples),
    )


def many_signatures(folder: Path) -> None:
    """Several inputs, outputs and signatures over one variable; scale has a default, which gRPC
    callers may rely on."""
    module = tf.Module()
    module.weight = tf.Variable([[1.0], [2.0]])
    matrix = _spec(tf.float32, None, 2)
    scalar = tf.TensorSpec([], tf.float32)
    _save(
        module,
        folder,
        serving_default=(
            lambda x, scale: {"y": tf.matmul(x, module.weight) * scale, "rows": tf.shape(x)[0]},
            {"x": matrix, "scale": scalar},
        ),
        sum=(
            lambda a, b: {"sum": a + b, "difference": a - b},
            {"a": _spec(tf.int64), "b": _spec(tf.int64)},
        ),
        half=(lambda x: {"y": x / 2}, {"x": scalar}),
    )
    _add_default(folder, "serving_default", "scale", 10.0)


def tagged(folder: Path) -> None:
    """Two meta graphs under their tags: serve adds 1, serve and gpu add 2."""
    builder = v1.saved_model.Builder(str(folder))
    for number, tags in enumerate((["serve"], ["serve", "gpu"]), start=1):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None], name="x")
            kept = v1.Variable(0.0, name="kept")
            session.run(v1.global_variables_initializer())
            info = v1.saved_model.build_tensor_info
            signature = v1.saved_model.build_signature_def(
                {"x": info(x)}, {"y": info(x + kept + float(number))}, "tensorflow/serving/predict"
            )
            signatures = {"serving_default": signature}
            if number == 1:
                builder.add_meta_graph_and_variables(session, tags, signature_def_map=signatures)
            else:
                builder.add_meta_graph(tags, signature_def_map=signatures)
    builder.save()


def keras_functional(folder: Path) -> None:
    """What Keras' own model.export writes: serve, and serving_default with the layer's names."""
    inputs = {name: tf.keras.Input((1,), name=name) for name in ("left", "right")}
    total = tf.keras.layers.Add(name="total")(list(inputs.values()))
    tf.keras.Model(inputs, {"total": total}).export(str(folder), verbose=False)


def heavy(folder: Path) -> None:
    """200 MB of weights."""
    module = tf.Module()
    module.weights = tf.Variable(tf.fill([50, 1_000_000], 0.5))
    _save(
        module,
        folder,
        serving_default=(
            lambda row: {"mean": tf.reduce_mean(tf.gather(module.weights, row), 1)},
            {"row": _spec(tf.int32)},
        ),
    )


KINDS: Mapping[str, Callable[[Path], None]] = {
    f.__name__: f
    for f in (
        words_tf2,
        table_tf2,
        table_tf1,
        examples_tf2,
        half_plus_two_tf2,
        many_signatures,
        tagged,
        keras_functional,
        heavy,
    )
}


def _spec(dtype: Any, *shape: int | None) -> Any:
    return tf.TensorSpec(shape or [None], dtype)


def _save(
    module: Any, folder: Path, **functions: tuple[Callable[..., Any], Mapping[str, Any]]
) -> None:
    signatures = {}
    for name, (function, specs) in functions.items():
        signatures[name] = tf.function(function).get_concrete_function(
            **{
                alias: tf.TensorSpec(spec.shape, spec.dtype, name=alias)
                for alias, spec in specs.items()
            }
        )
    tf.saved_model.save(module, str(folder), signatures=signatures)


def _vocabulary(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(WORDS) + "\n")
    return str(path)


def _add_default(folder: Path, signature: str, alias: str, value: float) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    default = tf.make_tensor_proto(np.float32(value))
    model.meta_graphs[0].signature_def[signature].defaults[alias].CopyFrom(default)
    path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    target = Path(sys.argv[1])
    for kind in sys.argv[2:] or [name for name in KINDS if name != "heavy"]:
        KINDS[kind](target / kind / "1")
