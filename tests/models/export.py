"""Exports the models of the contract tests, with TensorFlow: ``python tests/models/export.py
FOLDER``.

Run in a child process, so that no test process ever holds TensorFlow. FOLDER gets NAME/VERSION/ for
each model, and ``half_plus_two_2_versions`` with versions 123 and 124. Every model's answer is
known by head.
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

IDENTITIES = {
    "ident_float": tf.float32,
    "ident_double": tf.float64,
    "ident_half": tf.float16,
    "ident_bf16": tf.bfloat16,
    "ident_int8": tf.int8,
    "ident_int16": tf.int16,
    "ident_int32": tf.int32,
    "ident_int64": tf.int64,
    "ident_uint8": tf.uint8,
    "ident_uint16": tf.uint16,
    "ident_uint32": tf.uint32,
    "ident_uint64": tf.uint64,
    "ident_bool": tf.bool,
    "ident_string": tf.string,
    "ident_complex64": tf.complex64,
    "ident_complex128": tf.complex128,
}


def main(folder: Path) -> None:
    half_plus_two(folder / "half_plus_two" / "123")
    half_plus_two(folder / "half_plus_two_2_versions" / "123", classify_x2=True)
    half_plus_two(folder / "half_plus_two_2_versions" / "124", classify_x2=True)
    half_plus_three(folder / "half_plus_three" / "123")
    counter(folder / "counter" / "123")
    mnist_cnn(folder / "mnist_cnn" / "1")
    for name, dtype in IDENTITIES.items():
        _export(folder / name / "1", lambda x: {"y": tf.identity(x)}, x=tf.TensorSpec(None, dtype))
    anything = tf.TensorSpec(None, tf.string)
    row = tf.TensorSpec([None], tf.float32)
    _export(folder / "bytes_out" / "1", lambda x: {"out_bytes": tf.identity(x)}, x=anything)
    _export(folder / "half_out" / "1", lambda x: {"y": tf.cast(x, tf.float16)}, x=row)
    _export(folder / "scalar_out" / "1", lambda x: {"y": tf.reduce_sum(x)}, x=row)
    _export(
        folder / "mismatch_out" / "1",
        lambda x: {"a": tf.identity(x), "b": tf.reshape(tf.reduce_sum(x), [1])},
        x=row,
    )
    _export(
        folder / "two_in_two_out" / "1",
        lambda int_t, str_t: {"int_o": tf.identity(int_t), "str_o": tf.identity(str_t)},
        int_t=tf.TensorSpec(None, tf.int32),
        str_t=anything,
    )
    _export(folder / "asserts" / "1", _positive, x=row)
    _export(folder / "slow" / "1", _slow, x=row)
    judges(folder / "judges" / "1")


def half_plus_two(folder: Path, *, classify_x2: bool = False) -> None:
    """TF Serving's own toy in its TF1 form: y = x/2 + 2, y2 = x/2 + 3, y3 = x2/2 + 3."""
    with tf.Graph().as_default(), v1.Session() as session:
        a, b, c = (_variable(v, n) for n, v in (("a", 0.5), ("b", 2.0), ("c", 3.0)))
        examples = v1.placeholder(tf.string, name="tf_example")
        features = v1.io.parse_example(
            examples,
            {
                "x": tf.io.FixedLenFeature([1], tf.float32),
                "x2": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0]),
            },
        )
        x = tf.identity(features["x"], name="x")
        y = tf.identity(a * x + b, name="y")
        y2 = tf.identity(a * x + c, name="y2")
        x2 = tf.identity(features["x2"], name="x2")
        y3 = tf.identity(a * x2 + c, name="y3")
        signatures = {
            "serving_default": _signature({"x": x}, {"y": y}, "predict"),
            "classify_x_to_y": _signature({"inputs": examples}, {"scores": y}, "classify"),
            "regress_x_to_y": _signature({"inputs": examples}, {"outputs": y}, "regress"),
            "regress_x_to_y2": _signature({"inputs": examples}, {"outputs": y2}, "regress"),
            "regress_x2_to_y3": _signature({"inputs": x2}, {"outputs": y3}, "regress"),
        }
        if classify_x2:
            signatures["classify_x2_to_y3"] = _signature({"inputs": x2}, {"scores": y3}, "classify")
        for info in (
            i for s in signatures.values() for side in (s.inputs, s.outputs) for i in side.values()
        ):
            if (
                info.dtype == tf.float32.as_datatype_enum
            ):  # it says [-1, 1]; the graph takes any shape
                info.tensor_shape.CopyFrom(tf.TensorShape([None, 1]).as_proto())
        _save_v1(folder, session, signatures)


def half_plus_three(folder: Path) -> None:
    """y = x/2 + 3, with no shape in its signatures: what that says is rank 0, and nobody checks
    it."""
    with tf.Graph().as_default(), v1.Session() as session:
        a, c = _variable(0.5, "a"), _variable(3.0, "c")
        x = v1.placeholder(tf.float32, name="x")
        y = tf.add(a * x, c, name="y")
        signatures = {
            "serving_default": _signature({"x": x}, {"y": y}, "predict"),
            "tensorflow/serving/regress": _signature({"x": x}, {"y": y}, "regress"),
        }
        for signature in signatures.values():
            for info in (*signature.inputs.values(), *signature.outputs.values()):
                info.ClearField("tensor_shape")
        _save_v1(folder, session, signatures)


def counter(folder: Path) -> None:
    """A TF1 reference variable that answers its own new value: three of four signatures have no
    input."""
    with tf.Graph().as_default(), v1.Session() as session:
        value = _variable(0.0, "counter")
        delta = v1.placeholder(tf.float32, name="delta")
        outputs = {"get_counter": value}
        with tf.name_scope("incr_counter_op"):
            outputs["incr_counter"] = v1.assign_add(value, 1.0)
        with tf.name_scope("incr_counter_by_op"):
            outputs["incr_counter_by"] = v1.assign_add(value, delta)
        with tf.name_scope("reset_counter_op"):
            outputs["reset_counter"] = v1.assign(value, 0.0)
        signatures = {
            name: _signature(
                {"delta": delta} if name == "incr_counter_by" else {}, {"output": output}, "predict"
            )
            for name, output in outputs.items()
        }
        _save_v1(folder, session, signatures)


def mnist_cnn(folder: Path) -> None:
    """A small untrained convolution network: a wrong-rank input to it ends a process that lets it
    through."""
    rng = np.random.default_rng(7)
    kernel = tf.Variable(rng.normal(size=(3, 3, 1, 8), scale=0.3).astype(np.float32))
    dense = tf.Variable(rng.normal(size=(14 * 14 * 8, 10), scale=0.05).astype(np.float32))

    def answer(x: Any) -> dict[str, Any]:
        hidden = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME")), 2, 2, "VALID")
        return {"y": tf.nn.softmax(tf.matmul(tf.reshape(hidden, [-1, 14 * 14 * 8]), dense))}

    _export(
        folder, answer, variables=[kernel, dense], x=tf.TensorSpec([None, 28, 28, 1], tf.float32)
    )


def judges(folder: Path) -> None:
    """Classifiers and regressors of every kind, good ones and such as no answer can be made of. A
    label says the sign of the example's feature v; the score is v, its double the next."""
    module = tf.Module()
    signatures = {}

    def judge(answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def function(inputs: Any) -> Any:
            return answer(
                tf.io.parse_example(inputs, {"v": tf.io.FixedLenFeature([1], tf.float32)})["v"]
            )

        return function

    def add(name: str, answer: Callable[..., Any], **specs: Any) -> None:
        specs = specs or {"inputs": tf.TensorSpec([None], tf.string)}
        concrete = tf.function(answer, input_signature=[*specs.values()]).get_concrete_function()
        signatures[name] = concrete
        setattr(module, name, concrete)

    def labels(v: Any) -> Any:
        return tf.concat([tf.where(v < 0, "minus", "plus"), tf.fill(tf.shape(v), "any")], 1)

    def scores(v: Any) -> Any:
        return tf.concat([v, 2 * v], 1)

    add("serving_default", judge(lambda v: {"classes": labels(v), "scores": scores(v)}))
    add("classes_only", judge(lambda v: {"classes": labels(v)}))
    add("scores_only", judge(lambda v: {"scores": scores(v)}))
    add("no_classes", judge(lambda v: {"scores": scores(v)[:, :0]}))
    add("scores_flat", judge(lambda v: {"scores": v[:, 0]}))
    add("scores_double", judge(lambda v: {"scores": tf.cast(scores(v), tf.float64)}))
    add("scores_one_row", judge(lambda v: {"scores": scores(v)[:1]}))
    add("classes_float", judge(lambda v: {"classes": scores(v)}))
    add("classes_flat", judge(lambda v: {"classes": labels(v)[:, 0]}))
    add("classes_one_row", judge(lambda v: {"classes": labels(v)[:1]}))
    add("widths_differ", judge(lambda v: {"classes": labels(v)[:, :1], "scores": scores(v)}))
    add("third", judge(lambda v: {"classes": labels(v), "scores": scores(v), "more": v}))
    add("misnamed", judge(lambda v: {"label": labels(v)}))
    add("values", judge(lambda v: {"outputs": v}))
    add("values_flat", judge(lambda v: {"outputs": v[:, 0]}))
    add("values_wide", judge(lambda v: {"outputs": scores(v)}))
    add("values_scalar", judge(lambda v: {"outputs": v[0, 0]}))
    add("values_double", judge(lambda v: {"outputs": tf.cast(v, tf.float64)}))
    add("values_one_row", judge(lambda v: {"outputs": v[:1]}))
    text = tf.TensorSpec([None], tf.string)
    add(
        "two_inputs",
        lambda inputs, more: {"scores": tf.ones([1, 1]), "outputs": tf.ones([1])},
        inputs=text,
        more=text,
    )
    tf.saved_model.save(module, str(folder), signatures=signatures)


def _positive(x: Any) -> dict[str, Any]:
    tf.debugging.assert_greater(x, 0.0, message="x must be > 0")
    return {"y": tf.identity(x)}


def _slow(x: Any) -> dict[str, Any]:
    rounds = tf.cast(x[0], tf.int32)
    _, y = tf.while_loop(
        lambda i, _: i < rounds, lambda i, acc: (i + 1, acc + 1.0), [tf.constant(0), x]
    )
    return {"y": y}


def _export(
    folder: Path,
    function: Callable[..., Mapping[str, Any]],
    *,
    variables: list[Any] | None = None,
    **specs: Any,
) -> None:
    module = tf.Module()
    module.held = variables or []
    module.call = tf.function(function, input_signature=[specs[n] for n in specs])
    concrete = module.call.get_concrete_function()
    for tensor, name in zip(concrete.inputs, specs, strict=False):
        assert tensor.op.name == name, (tensor.op.name, name)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": concrete})


def _variable(value: float, name: str) -> Any:
    return v1.Variable(value, name=name, use_resource=False)


def _signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any], method: str) -> Any:
    info = v1.saved_model.build_tensor_info
    return v1.saved_model.build_signature_def(
        inputs={alias: info(t) for alias, t in inputs.items()},
        outputs={alias: info(t) for alias, t in outputs.items()},
        method_name=f"tensorflow/serving/{method}",
    )


def _save_v1(folder: Path, session: Any, signatures: Mapping[str, Any]) -> None:
    session.run(v1.global_variables_initializer())
    builder = v1.saved_model.Builder(str(folder))
    builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=dict(signatures))
    builder.save()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
