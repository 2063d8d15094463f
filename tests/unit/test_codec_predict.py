from __future__ import annotations

import base64
import gc
import json
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.codec import fastjson, predict
from headrace.codec.values import decoded_base64
from headrace.protocol import dtypes, faults
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import HeadraceError, InvalidArgument, Unimplemented
from headrace.protocol.signatures import Signature, TensorSpec


def signature(**inputs: DType) -> Signature:
    return Signature(
        "s", {n: TensorSpec(n, f"{n}:0", d, None, d.number) for n, d in inputs.items()}, {}
    )


X = signature(x=dtypes.FLOAT)


def read(body: bytes | str, of: Signature = X) -> predict.Tensors:
    return predict.parse_predict(body.encode() if isinstance(body, str) else body).tensors(of)


def refused(body: bytes | str, of: Signature = X) -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        read(body, of)
    assert caught.value.fault is not None
    return caught.value


def outcome(body: bytes, of: Signature) -> Any:
    """All that a caller can see of a body: every bit of its arrays, or the fault."""
    try:
        found = predict.parse_predict(body).tensors(of)
    except HeadraceError as error:
        return type(error), error.message, faults.serving_text(error.fault), error.fault.place
    arrays = {
        name: (
            array.dtype.str,
            array.shape,
            array.tolist() if array.dtype == object else array.tobytes(),
        )
        for name, array in found.arrays.items()
    }
    return arrays, found.row_format, found.named, found.unknown


@pytest.fixture
def fast_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact way is closed, so that a test which passes went the fast one."""

    def closed(*_: Any) -> None:
        raise AssertionError("this body should not need the exact way")

    monkeypatch.setattr("headrace.codec.predict.from_object", closed)


# What is read.


@pytest.mark.usefixtures("fast_only")
@pytest.mark.parametrize(
    ("body", "of", "expected", "row_format", "named"),
    [
        ('{"instances": [1, 2.5]}', X, {"x": [1, 2.5]}, True, False),
        (
            '{"instances": [[[1], [2]], [[3], [4]]]}',
            X,
            {"x": [[[1], [2]], [[3], [4]]]},
            True,
            False,
        ),
        ('{"instances": [[], []]}', X, {"x": [[], []]}, True, False),
        ('{"inputs": 2e0}', X, {"x": 2.0}, False, False),
        ('{"inputs": [[]]}', X, {"x": [[]]}, False, False),
        ('{"inputs": {"x": [[1, 2]]}}', X, {"x": [[1, 2]]}, False, True),
        (
            ' {"signature_name" : "e 1" ,\n"id":7,"k":null,"t":true, "instances":[ 1 ,\t2 ] }',
            X,
            {"x": [1, 2]},
            True,
            False,
        ),
        (
            '{"inputs": {"b1": [[1, 2]], "b2": 7}}',
            signature(b1=dtypes.FLOAT, b2=dtypes.INT64),
            {"b1": [[1, 2]], "b2": 7},
            False,
            True,
        ),
        (
            '{"instances": [{"b1": [1, 2], "b2": 7}, {"b1": [3, 4], "b2": 8}]}',
            signature(b1=dtypes.FLOAT, b2=dtypes.INT64),
            {"b1": [[1, 2], [3, 4]], "b2": [7, 8]},
            True,
            True,
        ),
    ],
)
def test_numbers_go_the_fast_way(
    body: str, of: Signature, expected: Mapping[str, Any], row_format: bool, named: bool
) -> None:
    found = read(body, of)
    assert {name: array.tolist() for name, array in found.arrays.items()} == expected
    assert (found.row_format, found.named) == (row_format, named)
    for name, array in found.arrays.items():
        assert array.dtype == of.inputs[name].dtype.numpy
        assert array.flags.owndata or array.base.flags.owndata


@pytest.mark.usefixtures("fast_only")
def test_an_image_goes_the_fast_way() -> None:
    image = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    found = read(json.dumps({"instances": image.tolist()})).arrays["x"]
    assert np.array_equal(found, image) and found.dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "literals", "expected"),
    [
        (
            dtypes.FLOAT,
            "[16777217, 1e39, -1e39, 1e-46, -0.0]",
            [16777216.0, np.inf, -np.inf, 0.0, -0.0],
        ),
        (
            dtypes.DOUBLE,
            "[9007199254740993, 18446744073709551615]",
            [9007199254740992.0, 1.8446744073709552e19],
        ),
        (dtypes.INT8, "[127, 128, -129, 300]", [127, -128, 127, 44]),
        (dtypes.UINT8, "[255, 300, -1]", [255, 44, 255]),
        (dtypes.INT16, "[32768, -40000]", [-32768, 25536]),
        (dtypes.INT32, "[2147483647, -2147483648]", [2147483647, -2147483648]),
        (dtypes.INT64, "[9223372036854775807, -9223372036854775808]", [(1 << 63) - 1, -(1 << 63)]),
        (dtypes.UINT32, "[4294967295, 0]", [4294967295, 0]),
        (dtypes.UINT64, "[18446744073709551615]", [(1 << 64) - 1]),
        (dtypes.BOOL, "[true, false]", [True, False]),
        (
            dtypes.STRING,
            '["a", {"b64": "gICA"}, "\\u00e9"]',
            [b"a", b"\x80\x80\x80", "\u00e9".encode()],
        ),
        (dtypes.FLOAT, "[NaN, -Inf, Infinity]", [np.nan, -np.inf, np.inf]),
        (dtypes.HALF, "[]", []),
    ],
    ids=lambda value: str(value) if isinstance(value, DType) else "",
)
def test_literals_become_values_of_the_dtype(
    dtype: DType, literals: str, expected: list[Any]
) -> None:
    found = read(f'{{"inputs": {literals}}}', signature(x=dtype)).arrays["x"]
    assert found.dtype == dtype.numpy
    np.testing.assert_array_equal(found, np.array(expected, dtype.numpy))
    if dtype is dtypes.FLOAT:
        assert np.array_equal(np.signbit(found), np.signbit(np.array(expected, np.float32)))


@pytest.mark.parametrize(
    ("dtype", "literal"),
    [
        (dtypes.INT32, "1.0"),
        (dtypes.INT32, "2147483648"),
        (dtypes.INT8, "-2147483649"),
        (dtypes.INT64, "9223372036854775808"),
        (dtypes.INT64, "-9223372036854775809"),
        (dtypes.UINT32, "-1"),
        (dtypes.UINT32, "4294967296"),
        (dtypes.UINT64, "-1"),
        (dtypes.UINT64, "18446744073709551616"),
        (dtypes.BOOL, "1"),
        (dtypes.STRING, "1"),
        (dtypes.FLOAT, "true"),
        (dtypes.FLOAT, '"1"'),
        (dtypes.FLOAT, "null"),
    ],
)
@pytest.mark.parametrize(
    "body", ['{{"inputs": [[{0}]]}}', '{{"inputs": {{"x": [[{0}]]}}}}'], ids=["plain", "named"]
)
def test_a_literal_of_another_kind_is_refused_in_its_place(
    dtype: DType, literal: str, body: str
) -> None:
    error = refused(body.format(literal), signature(x=dtype))
    assert error.fault.kind == "value_type"
    assert error.fault.place[-2:] == (0, 0)


@pytest.mark.parametrize("row_format", [True, False])
def test_a_dtype_json_does_not_carry_is_unimplemented_wrapped_in_a_row(row_format: bool) -> None:
    error = refused(
        '{"instances": [1.5]}' if row_format else '{"inputs": [1.5]}', signature(x=dtypes.HALF)
    )
    assert isinstance(error, InvalidArgument if row_format else Unimplemented)
    assert faults.serving_text(error.fault).endswith("Conversion of JSON Value: 1.5 to type: half")


# Two ways, one result.

TRAPS = [
    '{"instances": [[1], []]}',
    '{"instances": [[], [1]]}',
    '{"instances": [[1], [2]]}',
    '{"instances": [[1], 2]}',
    '{"instances": [1, [2]]}',
    '{"instances": [[[1]], [[2], []]]}',
    '{"instances": [[1, 2], [3]]}',
    '{"inputs": [[], [1], []]}',
    '{"inputs": [[], [[]]]}',
    '{"inputs": [[[]], []]}',
    '{"instances": [{"x": [1]}, {"x": []}]}',
    '{"instances": [{"x": []}, {"x": 1}]}',
    '{"instances": [{"x": 1}, {"x": []}]}',
    '{"instances": [{"x": 1}, {"x": 2, "x": 3}]}',
    '{"instances": [{"x": 1, "x": 2}, {"x": 3}]}',
    '{"instances": [{"x": 1}, {"y": 2}]}',
    '{"instances": [{"x": 1}, {"x1": 2}]}',
    '{"instances": [{"x": 1}, 2]}',
    '{"instances": [{"b64": "AAA="}]}',
    '{"instances": [1], "instances": [[2]]}',
    '{"instances": [1], "inputs": [[2]]}',
    '{"inst\\u0061nces": [1, 2]}',
    '{"instances": [1], "a\\\\": 1}',
    '{"instances": [1], "more": [[1], [2]]}',
    '{"more": {"instances": [7]}, "instances": [1]}',
    '{"more": "\\"instances\\":[1,2]", "instances": [1]}',
    '{"instances": [1], "signature_name": "[],"}',
    '{"instances": [1]}}',
    '{"instances": [1]} x',
    '{"instances": [1], "signature_name": "a", "signature_name": 5}',
    '{"inputs": {"x": [1], "y": [2]}}',
    '{"inputs": {"x": [1], "x": [[2]]}}',
    '{"inputs": {"b64": "AAA="}}',
    '{"inputs": {}}',
    '{"inputs": {"x": {"x": 1}}}',
    '{"inputs": null}',
    '{"inputs": [0e999, 1e-999]}',
    '{"inputs": [1e308, 1e309]}',
    '{"inputs": [12345678901234567890123]}',
    '{"inputs": [-0, 1]}',
    '{"inputs": "\\ud800"}',
    '{"inputs": ' + "[" * 65 + "]" * 65 + "}",
    '{"inputs": ' + "[" * 1030 + "1" + "]" * 1030 + "}",
]

DTYPES = [
    dtypes.FLOAT,
    dtypes.DOUBLE,
    dtypes.INT8,
    dtypes.UINT8,
    dtypes.INT32,
    dtypes.INT64,
    dtypes.UINT32,
    dtypes.UINT64,
    dtypes.BOOL,
    dtypes.STRING,
    dtypes.HALF,
]


def assert_both_ways_agree(body: bytes, of: Signature) -> None:
    both = outcome(body, of)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastjson, "tensors", lambda *_: None)
        standard = outcome(body, of)
        patch.setattr(predict.PredictBody, "_loaded", lambda _: None)
        exact = outcome(body, of)
    assert both == exact
    assert standard == exact


@pytest.mark.parametrize("body", TRAPS, ids=range(len(TRAPS)))
@pytest.mark.parametrize("dtype", [dtypes.FLOAT, dtypes.INT32, dtypes.STRING], ids=str)
def test_traps_are_read_the_same_both_ways(body: str, dtype: DType) -> None:
    assert_both_ways_agree(body.encode(), signature(x=dtype))


names = st.sampled_from(["x", "x1", "e", "a b", "in\u00e9", '"', "\\", "b64"])
scalars = st.one_of(
    st.integers(-3, 300),
    st.integers(-(1 << 65), 1 << 65),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.builds(lambda raw: {"b64": base64.b64encode(raw).decode()}, st.binary(max_size=4)),
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=8)


@st.composite
def tensor_values(draw: Any) -> Any:
    """Mostly regular arrays, of one kind of number."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    item = draw(
        st.sampled_from(
            [st.integers(-5, 300), st.floats(width=32), st.integers(0, 1 << 64), st.booleans()]
        )
    )

    def nested(dims: list[int]) -> Any:
        return [nested(dims[1:]) for _ in range(dims[0])] if dims else draw(item)

    return nested(shape)


@st.composite
def calls(draw: Any) -> tuple[bytes, Signature]:
    of = signature(
        **{
            n: draw(st.sampled_from(DTYPES))
            for n in draw(st.lists(names, min_size=1, max_size=2, unique=True))
        }
    )
    value = tensor_values() | values
    row = st.fixed_dictionaries({n: value for n in of.inputs})
    rows = st.lists(row, min_size=1, max_size=3) | row.flatmap(
        lambda r: st.integers(1, 3).map(lambda n: [r] * n)
    )
    body: dict[str, Any] = draw(
        st.one_of(
            st.fixed_dictionaries({"instances": st.lists(value, max_size=3) | rows | value}),
            st.fixed_dictionaries({"inputs": value | row}),
        )
    )
    if draw(st.booleans()):
        extra = draw(
            st.dictionaries(
                st.sampled_from(["signature_name", "id", "e1"]), st.text(max_size=4), max_size=2
            )
        )
        body = {**extra, **body} if draw(st.booleans()) else {**body, **extra}
    text = json.dumps(
        body, indent=draw(st.sampled_from([None, 2])), ensure_ascii=draw(st.booleans())
    )
    raw = text.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.integers(0, 2))):  # and some damage
        at = draw(st.integers(0, len(raw)))
        raw = (
            raw[:at]
            + draw(st.sampled_from([b"", b"1", b"[", b"]", b",", b" ", b"[]", b'"', b"\xff", b"e"]))
            + raw[at + draw(st.integers(0, 1)) :]
        )
    return raw, of


@settings(max_examples=500, deadline=None)
@given(calls())
@example((b'{"instances":[[1.0],[2.0]]}', X))
def test_any_body_is_read_the_same_both_ways(call: tuple[bytes, Signature]) -> None:
    assert_both_ways_agree(*call)


@settings(max_examples=500, deadline=None)
@given(st.text('[],0" ', max_size=30))
def test_any_brackets_are_read_the_same_both_ways(text: str) -> None:
    assert_both_ways_agree(b'{"instances":[%b]}' % text.encode(), X)
    assert_both_ways_agree(b'{"inputs":[%b]}' % text.encode(), X)


# Places of faults.


@pytest.mark.parametrize(
    ("body", "of", "text"),
    [
        ("", X, "body: nothing, expected a JSON object"),
        ("[1]", X, "body: a list of 1, expected an object"),
        (
            '{"instances": [1, 2',
            X,
            "body: not JSON at byte 19: missing a comma or ']' after an array element",
        ),
        ('{"signature_name": 5}', X, "signature_name: the number 5, expected text"),
        ('{"instances": []}', X, "instances: an empty list, expected an instance"),
        (
            '{"instances": [[1, 2], [3]]}',
            X,
            "instances[1]: shape (1,), expected shape (2,) as in the first instance",
        ),
        (
            '{"instances": [1, [3]]}',
            X,
            "instances[1]: shape (1,), expected a single value as in the first instance",
        ),
        ('{"instances": [[[1], [2, 3]]]}', X, "instances[0][1]: a list of 2, expected a list of 1"),
        (
            '{"instances": [{"x": [[1, 2], [3, "a"]]}]}',
            X,
            'instances[0].x[1][1]: the text "a", expected a number (float)',
        ),
        ('{"instances": [{"y": 1}]}', X, "instances[0].y: no such input, expected x"),
        (
            '{"instances": [{"imgae": 1}]}',
            signature(image=dtypes.FLOAT),
            "instances[0].imgae: no such input, expected image (did you mean image?)",
        ),
        (
            '{"instances": [{"a": 1}]}',
            signature(a=dtypes.FLOAT, b=dtypes.FLOAT),
            "instances[0]: missing: b; expected a, b",
        ),
        (
            '{"inputs": {"y": 1}}',
            X,
            "inputs: missing: x (there is y); expected a number (float) or a list",
        ),
        ('{"inputs": [1, [2]]}', X, "inputs[1]: a list of 1, expected a number (float)"),
        (
            '{"inputs": [{"b64": "?"}]}',
            signature(x=dtypes.STRING),
            'inputs[0].b64: the text "?", expected base64',
        ),
        (
            '{"inputs": [1]}',
            signature(a=dtypes.FLOAT, b=dtypes.FLOAT),
            "inputs: a list of 1, expected an object with the keys a, b",
        ),
        ("{}", X, "body: no 'instances' and no 'inputs', expected one of them"),
        (
            '{"instances": [1], "inputs": [1]}',
            X,
            "body: both 'instances' and 'inputs', expected one of them",
        ),
        ('{"inputs": ' + "[" * 70 + "]" * 70 + "}", X, "inputs: rank 70, expected at most 64"),
        (
            '{"inputs": ["' + "x" * 99 + '"]}',
            X,
            f'inputs[0]: the text "{"x" * 38}...", expected a number (float)',
        ),
        ("{}", signature(), "signature DEFAULT: takes no inputs, so REST cannot call it; gRPC can"),
    ],
)
def test_a_fault_says_where_what_came_and_what_was_expected(
    body: str, of: Signature, text: str
) -> None:
    assert refused(body, of).message == text


@pytest.mark.parametrize("depth", [100_000, pytest.param(500_000, marks=pytest.mark.long)])
def test_a_very_deep_body_is_answered(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    assert refused(b'{"instances":%b}' % deep).fault.kind == "rank"
    assert read(b'{"z":%b,"instances":[1]}' % deep).arrays["x"].tolist() == [1]
    assert refused(b'{"inputs":[1,%b]}' % deep).fault.kind == "list_level"


# What two readers may take for different things.


@pytest.mark.parametrize(
    ("body", "kind", "place"),
    [
        (b'{"instances": [1], "instances": [2]}', "duplicate_key", ("instances",)),
        (
            b'{"signature_name": "a", "inputs": [1], "signature_name": "b"}',
            "duplicate_key",
            ("signature_name",),
        ),
        (b'{"inputs": {"x": [1], "x": [2]}}', "duplicate_key", ("inputs", "x")),
        (b'{"inputs": {"x": [NaN], "x": [2]}}', "duplicate_key", ("inputs", "x")),
        (b'{"instances": [{"x": 1}, {"x": 1, "x": 2}]}', "duplicate_key", ("instances", 1, "x")),
        (b'{"instances": [{"x": NaN}, {"x": 1, "x": 2}]}', "duplicate_key", ("instances", 1, "x")),
        (b'{"instances": [1]}{"instances": [2]}', "trailing_bytes", ()),
        (b'{"instances": [1]}\0', "trailing_bytes", ()),
        (b'\xef\xbb\xbf{"instances": [1]}', "byte_order_mark", ()),
        (b'\xbf{"instances": [1]}', "byte_order_mark", ()),
    ],
)
def test_an_ambiguous_body_is_named(body: bytes, kind: str, place: faults.JsonPath) -> None:
    fault = predict.parse_predict(body).ambiguity()
    assert fault is not None and (fault.kind, fault.place) == (kind, place)
    assert faults.our_text(fault)


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [1]} \n',
        b'{"instances": [NaN, -Infinity]}',
        b'{"id": 1, "id": 2, "instances": [1]}',
        b'{"instances": [{"x": {"y": 1, "y": 2}}]}',
        b'{"instances": []}',
        b'{"inputs": 5}',
        b"{}",
    ],
)
def test_what_every_reader_takes_alike_is_not_ambiguous(body: bytes) -> None:
    assert predict.parse_predict(body).ambiguity() is None


def test_the_first_of_two_values_for_a_key_counts_as_in_tf_serving() -> None:
    assert read('{"instances": [1], "instances": [2, 3]}').arrays["x"].tolist() == [1]
    assert read('{"inputs": {"x": [1], "x": [2, 3]}}').arrays["x"].tolist() == [1]
    assert read('{"instances": [{"x": 1, "x": 2}]}').arrays["x"].tolist() == [1]
    assert (
        predict.parse_predict(b'{"signature_name": "a", "signature_name": "b"}').signature_name
        == "a"
    )


@pytest.mark.parametrize("value", ["[1]", "[NaN]"])
def test_a_column_that_no_input_has_is_ignored_and_named(value: str) -> None:
    found = read(f'{{"inputs": {{"y": 7, "x": {value}, "z": []}}}}')
    assert list(found.arrays) == ["x"] and found.unknown == ("y", "z")


# Parsers are borrowed.


def test_bodies_may_be_held_and_read_in_any_order() -> None:
    bodies = [
        predict.parse_predict(b'{"signature_name": "s%d", "instances": [%d, 1]}' % (i, i))
        for i in range(50)
    ]
    for i in reversed(range(50)):
        assert bodies[i].signature_name == f"s{i}"
        assert bodies[i].tensors(X).arrays["x"].tolist() == [i, 1]
        assert bodies[i].tensors(X).arrays["x"].tolist() == [i, 1]


def test_arrays_outlive_their_body() -> None:
    kept = [read(json.dumps({"inputs": [[i] * 100] * 10})).arrays["x"] for i in range(100)]
    gc.collect()
    assert all((array == i).all() for i, array in enumerate(kept))


def test_threads_do_not_share_a_parser() -> None:
    wrong: list[int] = []

    def work(i: int) -> None:
        body = json.dumps({"instances": [[i] * 50] * 20}).encode()
        for _ in range(200):
            if not (predict.parse_predict(body).tensors(X).arrays["x"] == i).all():
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# base64.


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("", b""),
        ("aGk=", b"hi"),
        ("aGk", b"hi"),
        ("aGk.", b"hi"),
        ("aA==", b"h"),
        ("aA", b"h"),
        (" aG\nk= ", b"hi"),
        ("aA = =", b"h"),
        ("a", None),
        ("aA=", None),
        ("aGk==", None),
        ("aGkh=", None),
        ("=aGk", None),
        ("aG=k", None),
        ("a-_k", None),
        ("\u00e9", None),
        ("!!!", None),
    ],
)
def test_base64_is_taken_as_tf_serving_takes_it(text: str, raw: bytes | None) -> None:
    assert decoded_base64(text) == raw


# What clients send.


@pytest.mark.parametrize(
    "dtype", [d for d in dtypes.ALL if d.numpy.kind in "fiub" and d.numpy.itemsize != 2], ids=str
)
@pytest.mark.parametrize("row_format", [True, False])
def test_what_build_predict_writes_is_read_back_bit_for_bit(dtype: DType, row_format: bool) -> None:
    rng = np.random.default_rng(7)
    raw = rng.integers(0, 256, 2 * 3 * dtype.numpy.itemsize, np.uint8)
    array = (raw & 1 if dtype is dtypes.BOOL else raw).view(dtype.numpy).reshape(2, 3)
    body = predict.build_predict({"x": array}, signature_name="s", row_format=row_format)
    parsed = predict.parse_predict(body)
    assert parsed.signature_name == "s"
    np.testing.assert_array_equal(parsed.tensors(signature(x=dtype)).arrays["x"], array)


@pytest.mark.parametrize(
    ("inputs", "row_format", "body"),
    [
        ({"x": np.float32([[0.1], [2]])}, True, b'{"instances":[[0.100000001],[2]]}'),
        ({"x": np.float32(2)}, False, b'{"inputs":{"x":2}}'),
        ({"x": np.float64([np.nan, -np.inf])}, False, b'{"inputs":{"x":[NaN,-Infinity]}}'),
        (
            {"x": np.array([b"hi", b"%d"], object)},
            True,
            b'{"instances":[{"b64":"aGk="},{"b64":"JWQ="}]}',
        ),
        ({"x": np.array(["h\u00e9"])}, True, '{"instances":["h\u00e9"]}'.encode()),
        (
            {"a": np.int64([1, 2]), "b": np.array([True, False])},
            True,
            b'{"instances":[{"a":1,"b":true},{"a":2,"b":false}]}',
        ),
        ({"x": np.zeros((2, 0), np.int32)}, False, b'{"inputs":{"x":[[],[]]}}'),
    ],
)
def test_build_predict_writes(
    inputs: Mapping[str, np.ndarray], row_format: bool, body: bytes
) -> None:
    assert predict.build_predict(inputs, row_format=row_format) == body


def test_build_predict_refuses_what_json_cannot_say() -> None:
    with pytest.raises(Unimplemented, match="use gRPC"):
        predict.build_predict({"x": np.zeros(2, np.complex64)})
    with pytest.raises(InvalidArgument, match="same number of instances"):
        predict.build_predict({"a": np.zeros(2), "b": np.zeros(3)}, row_format=True)
    with pytest.raises(InvalidArgument, match="no inputs"):
        predict.build_predict({})
    with pytest.raises(InvalidArgument, match="a int among text"):
        predict.build_predict({"x": np.array([1, "a"], object)})
