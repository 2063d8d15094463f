from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.protocol import dtypes
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import InvalidArgument
from headrace.protocol.signatures import (
    Shape,
    Signature,
    TensorSpec,
    check,
    from_signature_def,
    near_name,
    shape_text,
)


def signature(
    defaults: Mapping[str, Any] | None = None, **inputs: tuple[DType | None, Shape | None]
) -> Signature:
    specs = {
        name: TensorSpec(name, f"{name}:0", dtype, shape) for name, (dtype, shape) in inputs.items()
    }
    return Signature("s", specs, {}, defaults=defaults or {})


F, I = dtypes.FLOAT, dtypes.INT64  # noqa: E741
IMAGE = signature(image=(F, (-1, 28, 28, 1)))
PAIR = signature(a=(F, (-1, 2)), b=(I, (-1,)))


@pytest.mark.parametrize(
    ("of", "shapes"),
    [
        (IMAGE, {"image": (F, (5, 28, 28, 1))}),
        (IMAGE, {"image": (F, (0, 28, 28, 1))}),
        (PAIR, {"b": (I, (3,)), "a": (F, (3, 2))}),
        (signature(x=(F, None)), {"x": (F, (1, 2, 3))}),
        (signature(x=(F, ())), {"x": (F, ())}),
        (signature(x=(F, (4, -1)), y=(F, (-1,))), {"x": (F, (4, 9)), "y": (F, (7,))}),
        (signature({"b": None}, a=(F, (-1,)), b=(F, (-1,))), {"a": (F, (1,))}),
        (signature(x=(None, (-1,))), {"x": (F, (1,))}),
    ],
)
def test_what_the_signature_promises_passes(
    of: Signature, shapes: dict[str, tuple[DType, Shape]]
) -> None:
    check(of, shapes)


@pytest.mark.parametrize(
    ("of", "shapes", "row_format", "text"),
    [
        (
            IMAGE,
            {"image": (F, (3, 28, 27))},
            True,
            "instances[0].image: shape (28, 27), expected (28, 28, 1)",
        ),
        (
            IMAGE,
            {"image": (F, (3, 28, 28, 3))},
            False,
            "inputs.image: shape (3, 28, 28, 3), expected (?, 28, 28, 1)",
        ),
        (IMAGE, {"image": (F, ())}, None, "inputs.image: shape (), expected (?, 28, 28, 1)"),
        (
            IMAGE,
            {"imgae": (F, (1,))},
            None,
            "inputs.imgae: no such input, expected image (did you mean image?)",
        ),
        (IMAGE, {"zzz": (F, (1,))}, True, "instances[0].zzz: no such input, expected image"),
        (IMAGE, {}, False, "inputs: missing: image; expected float (?, 28, 28, 1)"),
        (
            IMAGE,
            {"image": (I, (1, 28, 28, 1))},
            None,
            "inputs.image: int64, expected float (int64: .astype('float32'))",
        ),
        (
            PAIR,
            {"a": (F, (3, 2)), "b": (I, (2,))},
            False,
            "inputs.b: a batch of 2, expected 3 as in a",
        ),
        (
            signature(x=(F, (4, 2))),
            {"x": (F, (3, 2))},
            True,
            "instances: 3 instances, expected exactly 4",
        ),
        (
            signature(x=(F, ())),
            {"x": (F, (3,))},
            True,
            "instances: 3 instances, expected a single value: the input has no batch dimension, "
            "so send it under inputs",
        ),
    ],
)
def test_what_it_does_not_promise_is_refused_in_its_place(
    of: Signature, shapes: dict[str, tuple[DType, Shape]], row_format: bool | None, text: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(of, shapes, row_format=row_format)
    assert caught.value.message == text


def test_places_can_be_told_and_unnamed() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(IMAGE, {"image": (F, (2, 3))}, row_format=True, named=False)
    assert caught.value.fault.place == ("instances", 0)
    with pytest.raises(InvalidArgument) as caught:
        check(IMAGE, {"image": (F, (2, 3))}, place=("request", "inputs"))
    assert caught.value.fault.place == ("request", "inputs", "image")


def test_shapes_are_written_as_python_tuples() -> None:
    assert [shape_text(s) for s in ((), (3,), (-1, 28))] == ["()", "(3,)", "(?, 28)"]
    assert len(shape_text((1,) * 5000)) < 100


def test_near_names_are_hinted() -> None:
    assert near_name("imgae", ["image", "label"]) == " (did you mean image?)"
    assert near_name("q", ["image"]) == ""
    assert near_name("x" * 10_000_000, ["image"]) == ""


def test_a_signature_def_is_read() -> None:
    from headrace.protocol import messages

    message = messages.parse_text(
        messages.SignatureDef,
        'inputs { key: "x" value { name: "x:0" dtype: DT_FLOAT tensor_shape { dim { size: -1 } '
        "dim { size: 2 } } } }"
        'outputs { key: "y" value { name: "y:0" dtype: DT_INT64 tensor_shape { unknown_rank: true '
        "} } }"
        'method_name: "tensorflow/serving/predict"',
    )
    found = from_signature_def("serving_default", message)
    assert found.inputs == {"x": TensorSpec("x", "x:0", F, (-1, 2), 1)}
    assert found.outputs["y"].shape_text == "(unknown rank)"
    assert (found.required, found.method_name) == (("x",), "tensorflow/serving/predict")
