"""TensorProto both ways, held against TensorFlow's own reader and writers."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from headrace.protocol import dtypes, messages, tensors
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import InvalidArgument
from tests.forks import ForkServer
from tests.unit import official
from tests.unit.official import Witness

NUMERIC = [row for row in dtypes.ALL if not row.is_string]
MODES = [True, False]


@pytest.fixture(scope="module")
def witness(with_tensorflow: ForkServer) -> Iterator[Witness]:
    with official.witness(with_tensorflow) as child:
        yield child


def edges(row: DType) -> np.ndarray:
    """The values of a dtype that go wrong first."""
    if row.is_string:
        return np.array([b"", b"a\x00b\x00", b"\xff\xfe", "łódź".encode(), b"x" * 300], object)
    if row is dtypes.BOOL:
        return np.array([True, False, True])
    if row.numpy.kind in "iu":
        info = np.iinfo(row.numpy)
        return np.array([info.min, info.max, 0, 1], row.numpy)
    info = ml_dtypes.finfo(row.numpy)
    parts = [
        0.0,
        -0.0,
        1.5,
        float("nan"),
        float("inf"),
        float("-inf"),
        info.max,
        info.min,
        info.smallest_subnormal,
    ]
    if row.numpy.kind == "c":
        return np.array(
            [complex(a, b) for a, b in zip(parts, reversed(parts), strict=True)], row.numpy
        )
    return np.array(parts, row.numpy)


def arrays(row: DType) -> dict[str, np.ndarray]:
    edge = edges(row)
    one = np.empty((), row.numpy)
    one[()] = edge[0]
    return {
        "edges": edge,
        "rank 0": one,
        "empty": np.empty((0,), row.numpy),
        "empty rows": np.empty((3, 0, 2), row.numpy),
        "rank 5": np.resize(edge, (2, 1, 3, 1, 2)),
    }


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Bit for bit: NaNs equal themselves and -0.0 is not 0.0."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes()


CASES = [
    pytest.param(row, array, id=f"{row}, {name}")
    for row in dtypes.ALL
    for name, array in arrays(row).items()
]


@pytest.mark.parametrize("as_content", MODES, ids=["content", "values"])
@pytest.mark.parametrize(("row", "array"), CASES)
def test_tensorflow_and_we_read_what_we_write(
    witness: Witness, row: DType, array: np.ndarray, as_content: bool
) -> None:
    proto = tensors.to_proto(array, as_content=as_content)
    data = proto.SerializeToString()
    assert tensors.described(proto) == (row, array.shape)
    assert same(tensors.from_proto(messages.TensorProto.FromString(data)), array)
    theirs = witness.read(data, row.number)
    assert isinstance(theirs, np.ndarray), theirs
    assert same(np.asarray(theirs, row.numpy), array)


@pytest.mark.parametrize(("row", "array"), CASES)
def test_we_read_what_tensorflow_writes(witness: Witness, row: DType, array: np.ndarray) -> None:
    for data in (witness.content(array, row.number), witness.values(array, row.number)):
        proto = messages.TensorProto.FromString(data)
        assert tensors.described(proto) == (row, array.shape)
        assert same(tensors.from_proto(proto), array)


@pytest.mark.parametrize("row", dtypes.ALL, ids=str)
def test_values_are_one_entry_an_element(row: DType) -> None:
    array = np.resize(edges(row), (7,))
    array[3:] = array[3]
    proto = tensors.to_proto(array, as_content=False)
    assert not proto.tensor_content
    assert len(getattr(proto, row.field)) == (14 if row.numpy.kind == "c" else 7)


def typed(number: int, shape: tuple[int, ...], **values: Any) -> Any:
    proto = messages.TensorProto(dtype=number, **values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


RULES = {
    "last value repeats": typed(1, (2, 3), float_val=[1, 2]),
    "no values are zeros": typed(9, (2, 2)),
    "no strings are empty": typed(7, (2,)),
    "last string repeats": typed(7, (3,), string_val=[b"a", b"\x00"]),
    "more values are ignored": typed(1, (2,), float_val=[1, 2, 3]),
    "more strings are ignored": typed(7, (1,), string_val=[b"a", b"b"]),
    "no elements ignore values": typed(3, (0, 5), int_val=[1]),
    "no elements ignore content": typed(3, (0,), tensor_content=b"abc"),
    "no elements of strings ignore content": typed(7, (0,), tensor_content=b"abc"),
    "int8 wraps": typed(6, (3,), int_val=[300, -300, 128]),
    "uint8 wraps": typed(4, (2,), int_val=[-1, 256]),
    "uint16 wraps": typed(17, (2,), int_val=[-1, 65536]),
    "bools repeat": typed(10, (3,), bool_val=[False, True]),
    "half is bit patterns": typed(19, (3,), half_val=[0x3C00, 0x7E00]),
    "half patterns wrap": typed(19, (1,), half_val=[0x13C00]),
    "bfloat16 is bit patterns": typed(14, (2,), half_val=[0x3F80]),
    "complex pairs repeat": typed(8, (3,), scomplex_val=[1, 2, 3, 4]),
    "complex128 pairs repeat": typed(18, (2,), dcomplex_val=[1, 2]),
    "half a pair counts for nothing": typed(8, (2,), scomplex_val=[1]),
    "content wins over values": typed(
        1, (1,), tensor_content=np.float32(2).tobytes(), float_val=[1]
    ),
    "strings in content": typed(7, (3,), tensor_content=b"\x01\x00\x02a\x00b"),
    "long string in content": typed(7, (1,), tensor_content=b"\xac\x02" + b"y" * 300),
    "rank 0 without a value": typed(2, ()),
    "values of another type are not seen": typed(1, (2,), double_val=[1, 2]),
}


@pytest.mark.parametrize("proto", RULES.values(), ids=RULES)
def test_tensorflows_rules_for_values(witness: Witness, proto: Any) -> None:
    theirs = witness.read(proto.SerializeToString(), proto.dtype)
    assert isinstance(theirs, np.ndarray), theirs
    ours = tensors.from_proto(proto)
    assert same(ours, np.asarray(theirs, ours.dtype))


def unknown_rank() -> Any:
    proto = typed(1, (), float_val=[1])
    proto.tensor_shape.unknown_rank = True
    return proto


REFUSED = {
    "content too short": (
        typed(1, (2,), tensor_content=bytes(7)),
        "8 bytes, but tensor_content holds 7",
    ),
    "content too long": (
        typed(1, (2,), tensor_content=bytes(9)),
        "8 bytes, but tensor_content holds 9",
    ),
    "content for a huge shape": (
        typed(1, (10**12,), tensor_content=bytes(8)),
        "4000000000000 bytes",
    ),
    "negative dimension": (typed(1, (2, -1), float_val=[1]), r"negative dimension: \[2, -1\]"),
    "two negative dimensions": (
        typed(1, (-2, -3), float_val=[1]),
        r"negative dimension: \[-2, -3\]",
    ),
    "overflowing shape": (
        typed(1, (2**40, 2**40), float_val=[1]),
        "more elements than can be counted",
    ),
    "overflow before a zero": (typed(1, (2**40, 2**40, 0)), "more elements than can be counted"),
    "rank 255": (typed(1, (1,) * 255, float_val=[1]), "rank 255, at most 254"),
    "strings missing in content": (typed(7, (2,), tensor_content=b"\x01a"), "2 strings"),
    "strings cut in content": (typed(7, (2,), tensor_content=b"\x01\x02ab"), "2 strings"),
    "strings left over in content": (typed(7, (1,), tensor_content=b"\x01ab"), "1 strings"),
    "string length without end": (typed(7, (1,), tensor_content=b"\xff" * 9), "1 strings"),
    "lengths for a huge shape": (
        typed(7, (10**12,), tensor_content=bytes(8)),
        "1000000000000 strings",
    ),
    "no dtype": (typed(0, (1,), float_val=[1]), "DT_INVALID"),
    "unknown dtype": (typed(77, (1,), float_val=[1]), "dtype 77"),
    "reference dtype": (typed(101, (1,), float_val=[1]), "DT_FLOAT_REF"),
}
OURS_ONLY = {
    "a trillion floats from one": (
        typed(1, (10**12,), float_val=[1]),
        "1000000000000 elements, but holds 1 values",
    ),
    "zeros by the billion": (typed(1, (10**9,)), "1000000000 elements, but holds 0 values"),
    "a billion strings from one": (typed(7, (10**9,), string_val=[b"s"]), "holds 1 values"),
    # TensorFlow overlooks the mark and reads a scalar; whoever sets it means something else.
    "unknown rank": (unknown_rank(), "unknown rank"),
    "a dtype we do not carry": (typed(11, (1,), int_val=[1]), "DT_QINT8"),
}


@pytest.mark.parametrize(("proto", "text"), (REFUSED | OURS_ONLY).values(), ids=REFUSED | OURS_ONLY)
def test_a_tensor_that_lies_is_refused_without_allocating(proto: Any, text: str) -> None:
    tracemalloc.start()
    try:
        for read in (tensors.described, tensors.from_proto):
            with pytest.raises(InvalidArgument, match=text):
                read(proto)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


# Not the trillion strings: TensorFlow makes room for them all (10 s) before it sees that they are
# not there.
@pytest.mark.parametrize(
    "name",
    sorted(
        set(REFUSED) - {"no dtype", "unknown dtype", "reference dtype", "lengths for a huge shape"}
    ),
)
def test_tensorflow_refuses_them_too(witness: Witness, name: str) -> None:
    proto = REFUSED[name][0]
    assert isinstance(witness.read(proto.SerializeToString(), proto.dtype), str)


@pytest.mark.parametrize("shape", [(1,) * 100, (0, 2**62)], ids=["rank 100", "empty beyond memory"])
def test_what_numpy_cannot_hold_is_described_and_refused(shape: tuple[int, ...]) -> None:
    proto = typed(2, shape, double_val=[1])
    assert tensors.described(proto) == (dtypes.DOUBLE, shape)
    with pytest.raises(InvalidArgument, match="cannot be held"):
        tensors.from_proto(proto)


def test_the_bound_is_on_filling_up_alone() -> None:
    few, enough = typed(1, (11,), float_val=[1]), typed(1, (11,), float_val=range(11))
    with pytest.raises(InvalidArgument, match="at most 10 elements"):
        tensors.from_proto(few, max_elements=10)
    assert tensors.from_proto(few, max_elements=11).tolist() == [1.0] * 11
    assert tensors.from_proto(enough, max_elements=10).tolist() == list(range(11))
    content = tensors.to_proto(np.ones(11, np.float32))
    assert tensors.described(content, max_elements=10) == (dtypes.FLOAT, (11,))


@pytest.mark.parametrize(
    ("dtype", "most"), [(dtypes.FLOAT, tensors.MAX_ELEMENTS), (dtypes.STRING, tensors.MAX_STRINGS)]
)
def test_a_few_bytes_cannot_claim_much_memory(dtype: DType, most: int) -> None:
    proto = messages.TensorProto(dtype=dtype.number)
    proto.tensor_shape.dim.add(size=most + 1)
    with pytest.raises(InvalidArgument, match=f"at most {most} elements are filled up"):
        tensors.from_proto(proto)
    proto.tensor_shape.dim[0].size = most
    assert len(tensors.from_proto(proto)) == most


def test_a_bool_is_true_or_false_whatever_its_byte() -> None:
    array = tensors.from_proto(typed(10, (3,), tensor_content=b"\x00\x01\x02"))
    assert array.view(np.uint8).tolist() == [0, 1, 1]


LAYOUTS = {
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "strided": np.arange(12, dtype=np.int64)[::2],
    "transposed complex": np.arange(6).reshape(2, 3).T.astype(np.complex64),
    "big-endian": np.arange(4, dtype=">f4"),
    "big-endian half": np.arange(4, dtype=">f2"),
    "read-only": np.broadcast_to(np.int32(7), (2, 2)),
}


@pytest.mark.parametrize("as_content", MODES, ids=["content", "values"])
@pytest.mark.parametrize("array", LAYOUTS.values(), ids=LAYOUTS)
def test_memory_layout_does_not_show(array: np.ndarray, as_content: bool) -> None:
    read = tensors.from_proto(tensors.to_proto(array, as_content=as_content))
    assert read.dtype.isnative
    assert np.array_equal(read, array)


@pytest.mark.parametrize(
    ("given_", "row", "expected"),
    [
        pytest.param([[1, 2], [3, 4]], dtypes.FLOAT, [[1.0, 2.0], [3.0, 4.0]], id="ints to float"),
        pytest.param([1.5, 2.5], dtypes.FLOAT, [1.5, 2.5], id="double to float"),
        pytest.param([1, 255], dtypes.UINT8, [1, 255], id="ints that fit"),
        pytest.param([0.5], dtypes.BFLOAT16, [0.5], id="double to bfloat16"),
        pytest.param([True], dtypes.INT32, [1], id="bool to int"),
        pytest.param(1.0, dtypes.COMPLEX64, 1 + 0j, id="scalar to complex"),
        pytest.param(["a", "ł"], dtypes.STRING, [b"a", "ł".encode()], id="text"),
        pytest.param([b"a", b"bc"], None, [b"a", b"bc"], id="bytes"),
        pytest.param(
            np.array(["a", b"\x00\xff"], object), None, [b"a", b"\x00\xff"], id="mixed objects"
        ),
    ],
)
def test_what_converts(given_: Any, row: DType | None, expected: Any) -> None:
    proto = tensors.to_proto(given_, row)
    assert row is None or proto.dtype == row.number
    assert tensors.from_proto(proto).tolist() == expected


@pytest.mark.parametrize(
    ("given_", "row", "text"),
    [
        pytest.param(
            [1.5], dtypes.INT32, "float64 does not convert to int32 without loss", id="float to int"
        ),
        pytest.param(
            [256], dtypes.UINT8, "int64 does not convert to uint8 without loss", id="too large"
        ),
        pytest.param(
            [-1], dtypes.UINT64, "int64 does not convert to uint64 without loss", id="negative"
        ),
        pytest.param([1], dtypes.BOOL, "int64 does not convert to bool", id="int to bool"),
        pytest.param([1], dtypes.STRING, "int64 does not convert to string", id="number to string"),
        pytest.param([1e39], dtypes.FLOAT, "too large for float", id="double beyond float"),
        pytest.param([[1], [2, 3]], dtypes.FLOAT, "not a tensor: .*inhomogeneous", id="ragged"),
        pytest.param(["\ud800"], dtypes.STRING, "not Unicode: surrogates", id="lone surrogate"),
        pytest.param(["1"], dtypes.FLOAT, "does not convert to float", id="string to number"),
        pytest.param(
            [1j],
            dtypes.FLOAT,
            "complex128 does not convert to float without",
            id="complex to float",
        ),
        pytest.param(
            np.array([b"a", 3], object),
            None,
            "a string tensor holds a int: 3",
            id="number among strings",
        ),
        pytest.param(
            np.array(["2020-01-01"], "M8[D]"),
            None,
            "datetime64.* has no TensorFlow dtype",
            id="date",
        ),
    ],
)
def test_what_does_not_convert(given_: Any, row: DType | None, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        tensors.to_proto(given_, row)


def test_content_is_read_without_a_copy() -> None:
    array = tensors.from_proto(tensors.to_proto(np.ones(8, np.float32)))
    assert not array.flags.owndata and not array.flags.writeable


SHAPES = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)


@st.composite
def any_array(draw: Any) -> tuple[DType, np.ndarray]:
    """An array of any dtype with any bits in it."""
    row = draw(st.sampled_from(dtypes.ALL))
    shape = draw(SHAPES)
    count = int(np.prod(shape))
    if row.is_string:
        array = np.empty(count, object)
        array[:] = draw(st.lists(st.binary(max_size=9), min_size=count, max_size=count))
    elif row is dtypes.BOOL:
        array = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), np.bool_)
    else:
        size = count * row.numpy.itemsize
        array = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), row.numpy)
    return row, array.reshape(shape)


@settings(max_examples=150, deadline=None)
@given(any_array(), st.booleans())
def test_any_array_comes_back_and_reaches_tensorflow(
    witness: Witness, case: tuple[DType, np.ndarray], as_content: bool
) -> None:
    row, array = case
    proto = tensors.to_proto(array, as_content=as_content)
    assert tensors.described(proto) == (row, array.shape)
    assert same(tensors.from_proto(proto), array)
    theirs = witness.read(proto.SerializeToString(), row.number)
    assert isinstance(theirs, np.ndarray)
    assert same(np.asarray(theirs, row.numpy), array)
    assert same(
        tensors.from_proto(messages.TensorProto.FromString(witness.content(array, row.number))),
        array,
    )


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "float_val": st.floats(width=32),
    "double_val": st.floats(),
    "int_val": st.integers(-(2**31), 2**31 - 1),
    "string_val": st.binary(max_size=4),
    "scomplex_val": st.floats(width=32),
    "int64_val": st.integers(-(2**63), 2**63 - 1),
    "bool_val": st.booleans(),
    "half_val": st.integers(0, 2**16 - 1),
    "dcomplex_val": st.floats(),
    "uint32_val": st.integers(0, 2**32 - 1),
    "uint64_val": st.integers(0, 2**64 - 1),
}


@st.composite
def any_claim(draw: Any) -> Any:
    """A TensorProto whose shape, values and content need not agree."""
    row = draw(st.sampled_from(dtypes.ALL))
    shape = draw(st.lists(st.integers(-1, 3), max_size=3))
    proto = typed(
        row.number, tuple(shape), **{row.field: draw(st.lists(_VALUES[row.field], max_size=9))}
    )
    if row is not dtypes.BOOL:
        proto.tensor_content = draw(st.just(b"") | st.binary(max_size=16))
    return proto


@settings(max_examples=300, deadline=None)
@given(any_claim())
def test_any_claim_is_read_or_refused_as_tensorflow_does(witness: Witness, proto: Any) -> None:
    theirs = witness.read(proto.SerializeToString(), proto.dtype)
    if isinstance(theirs, str):
        for read in (tensors.described, tensors.from_proto):
            with pytest.raises(InvalidArgument):
                read(proto)
    else:
        row, shape = tensors.described(proto)
        assert shape == theirs.shape
        ours = tensors.from_proto(proto)
        # A NaN's spare bits may be lost on the way through Python's floats.
        theirs = np.asarray(theirs, row.numpy)
        assert same(ours, theirs) or np.array_equal(ours, theirs, equal_nan=row.numpy.kind in "fcV")
