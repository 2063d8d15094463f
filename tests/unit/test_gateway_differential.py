"""Nothing outside the signature gets past strict: what the gateway lets through, the exact reader
of TensorFlow Serving's JSON takes too, for the same tensors, with nothing in it that another reader
could take for something else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway import check
from gateway.contracts.catalog import Catalog, Contract, Model
from headrace.codec.arrays import from_object
from headrace.codec.json import rapidjson
from headrace.codec.json.rapidjson import JsonObject, JsonSyntaxError
from headrace.http.access_log import RequestInfo
from headrace.protocol import signatures
from headrace.protocol.errors import HeadraceError
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import Signature
from tests.unit.gateway_backend import signature

FLOAT, INT32, UINT8, STRING, INT64, BOOL = 1, 3, 4, 7, 9, 10
INPUTS = {
    "serving_default": {"x": (FLOAT, [-1, 2])},
    "scalar": {"x": (FLOAT, [])},
    "rows": {"x": (INT32, [-1])},
    "free": {"x": (FLOAT, None)},
    "large": {"x": (INT64, [-1])},
    "text": {"x": (STRING, [-1])},
    "two": {"a": (UINT8, [-1]), "b": (STRING, [-1, 2])},
    "three": {"a": (FLOAT, [-1]), "b": (BOOL, [-1]), "ab": (FLOAT, [-1, 1])},
}
SIGNATURES = {
    name: signatures.from_signature_def(name, signature(inputs)) for name, inputs in INPUTS.items()
}
CONTRACT = Contract(
    "m", 1, SIGNATURES, lenient=False, predict_path="/v1/models/m/versions/1:predict", grpc_pin=b""
)
CATALOG = Catalog({"m": Model("m", contracts={1: CONTRACT}, has_status=True)})

numbers = st.sampled_from(
    "0 1 -1 2 1.0 -0 0.5 1e2 1E+2 1e-2 255 256 300 -5 2147483647 2147483648 9223372036854775807 "
    "9223372036854775808 "
    "18446744073709551616 1e38 1e39 1e308 1e309 0e309 NaN Infinity -Infinity Inf -Inf nan 01 1. "
    ".5 +1 - 1e 0x1 1_0 --1 "
    "123456789012345678901234567890 0.1 1e-400".split()
)
texts = st.sampled_from(
    [
        *(
            '"a"',
            '""',
            '"1"',
            '"é"',
            '"\\/"',
            '"\\x"',
            "'a'",
            '"a\x01"',
            '"\\u0061"',
            '"\\u0000"',
            '"\\ud800"',
            '"\\ud83d\\ude00"',
        ),
        *(
            '{"b64":"aGk="}',
            '{"b64":"aGk"}',
            '{"b64":"!"}',
            '{"b64":1}',
            '{"b64":"aGk=","b64":""}',
            '{"b64":"aGk=","k":1}',
        ),
    ]
)
words = st.sampled_from(["true", "false", "null", "True", "nul", "/**/", "{}", "[]"])
blanks = st.sampled_from(["", "", "", " ", "\n\t", "\r\n", "\x0b", "\xa0", "//c\n"])
names = st.sampled_from(["a", "b", "ab", "x", "\\u0061", "\\u0078", "", "X", "a.", "x1", "b64"])
keys = st.sampled_from(
    [
        "instances",
        "inputs",
        "signature_name",
        "\\u0069nstances",
        "inp\\u0075ts",
        "Instances",
        "note",
        "signature_name\\u0000",
    ]
)


def listed(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=4).map(lambda found: "[" + ",".join(found) + "]")


def keyed(
    key: st.SearchStrategy[str], values: st.SearchStrategy[str], most: int
) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(key, blanks, values), max_size=most)
    return pairs.map(lambda found: "{" + ",".join(f'"{k}"{b}:{v}' for k, b, v in found) + "}")


leaves = st.one_of(numbers, numbers, texts, words)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(listed(inner), listed(inner), keyed(names, inner, 4)),
    max_leaves=12,
)
named = st.sampled_from(
    [f'"{name}"' for name in INPUTS] + ['"nobody"', "1", "null", '"ro\\u0077s"']
)
members = st.one_of(
    st.tuples(keys, values),
    st.tuples(st.just("signature_name"), named),
    st.tuples(st.just("instances"), listed(values)),
    st.tuples(st.just("inputs"), keyed(names, values, 4)),
)
bodies = st.builds(
    lambda before, found, gap, after: (
        before + "{" + ("," + gap).join(f'"{k}":{gap}{v}' for k, v in found) + gap + "}" + after
    ),
    st.sampled_from(["", "", "", " ", "\ufeff", "\n"]),
    st.lists(members, max_size=4),
    blanks,
    st.sampled_from(["", "", "", " ", "}", "x", "\0", "{}", "\n"]),
)


def good_bodies() -> st.SearchStrategy[str]:
    """Bodies of the right build, so that many get through; a mutation then makes them almost
    right."""
    pair = st.tuples(numbers, numbers).map(lambda p: f"[{p[0]},{p[1]}]")
    row = st.fixed_dictionaries(
        {"a": numbers, "b": st.tuples(texts, texts).map(lambda p: f"[{p[0]},{p[1]}]")}
    )
    shown = row.map(lambda r: "{" + ",".join(f'"{k}":{v}' for k, v in r.items()) + "}")
    return st.one_of(
        st.lists(pair, min_size=1, max_size=3).map(
            lambda rows: f'{{"instances":[{",".join(rows)}]}}'
        ),
        st.lists(numbers, min_size=1, max_size=4).map(
            lambda rows: f'{{"signature_name":"rows","instances":[{",".join(rows)}]}}'
        ),
        st.lists(numbers, min_size=1, max_size=4).map(
            lambda v: f'{{"signature_name":"large","inputs":[{",".join(v)}]}}'
        ),
        st.lists(texts, min_size=1, max_size=3).map(
            lambda v: f'{{"signature_name":"text","inputs":[{",".join(v)}]}}'
        ),
        numbers.map(lambda v: f'{{"inputs":{v},"signature_name":"scalar"}}'),
        values.map(lambda v: f'{{"inputs":{v},"signature_name":"free"}}'),
        st.lists(shown, min_size=1, max_size=3).map(
            lambda rows: f'{{"signature_name":"two","instances":[{",".join(rows)}]}}'
        ),
    )


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(good_bodies()).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(["cut", "put", "swap", "copy"])):
            case "cut":
                del body[at : at + 1]
            case "put":
                body[at:at] = draw(
                    st.sampled_from(
                        [b" ", b",", b"[", b"]", b"0", b".", b"-", b'"', b"\0", b"\xff", b"e1"]
                    )
                )
            case "swap":
                body[at : at + 2] = body[at : at + 2][::-1]
            case _:
                body[at:at] = body[max(0, at - 4) : at]
    return bytes(body)


def reference(body: bytes) -> dict[str, np.ndarray] | None:
    """The tensors of a body, read the slow way; None for what is to be refused."""
    try:
        document = rapidjson.read(body)
    except JsonSyntaxError:
        return None
    root = document.value
    if (
        document.has_byte_order_mark
        or document.has_trailing_bytes
        or not isinstance(root, JsonObject)
    ):
        return None
    if any(root.names().count(key) > 1 for key in ("signature_name", "instances", "inputs")):
        return None
    rows = root["instances"] if "instances" in root else []
    holders = [
        *(rows if isinstance(rows, list) else []),
        *([root["inputs"]] if "inputs" in root else []),
    ]
    if any(len(set(h.names())) < len(h.names()) for h in holders if isinstance(h, JsonObject)):
        return None
    name = root["signature_name"] if "signature_name" in root else ""
    wanted = SIGNATURES.get(name or "serving_default") if isinstance(name, str) else None
    if wanted is None:
        return None
    try:
        read = from_object(root, wanted)
        shapes = {
            alias: (wanted.inputs[alias].dtype, array.shape) for alias, array in read.arrays.items()
        }
        signatures.check(wanted, shapes, row_format=read.row_format)
    except HeadraceError:
        return None
    return None if read.unknown else read.arrays


def let_through(body: bytes) -> dict[str, np.ndarray] | None:
    info = RequestInfo()
    try:
        _, values = check.predict_body(CATALOG, ModelSpec("m"), body, info)
    except HeadraceError as refusal:
        assert refusal.message.isprintable()
        return None
    assert_promised(values.arrays, SIGNATURES[info.signature])
    return dict(values.arrays)


def assert_promised(arrays: dict[str, np.ndarray], wanted: Signature) -> None:
    """The promise itself, in so many words."""
    assert set(arrays) == set(wanted.inputs)
    for alias, array in arrays.items():
        spec = wanted.inputs[alias]
        assert spec.dtype is not None and array.dtype == spec.dtype.numpy
        if spec.shape is not None:
            assert array.ndim == len(spec.shape)
            assert all(
                want in (-1, size) for want, size in zip(spec.shape, array.shape, strict=True)
            )


def assert_read_alike(body: bytes) -> None:
    ours, theirs = let_through(body), reference(body)
    assert (ours is None) is (theirs is None), (body, ours, theirs)
    if ours is not None and theirs is not None:
        for alias, array in theirs.items():
            assert array.shape == ours[alias].shape
            np.testing.assert_array_equal(array, ours[alias])


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=bodies)
@example(body='{"instances":[[1,2]],"instances":[[1,2]]}')
@example(body='{"instances":[[1,2]],"note":{"instances":[[1]]}}')
@example(body='{"signature_name":"two","instances":[{"a":1,"b":["x","y"],"\\u0061":2}]}')
@example(body='{"signature_name":"rows","instances":[1,[2]]}')
@example(body='{"instances":[[1,2],[]]}')
@example(body='{"instances":[[[1],[2]]]}')
@example(body='{"instances":[[1,2],[3]],"x":[4]}')
@example(body='{"instances":[[1,2]],"note\\u0000":1}')
@example(body='{"instances":[[1,2]],"instances\\u0000":1}')
def test_generated_bodies_are_read_as_the_exact_reader_reads_them(body: str) -> None:
    assert_read_alike(body.encode("utf-8", "surrogatepass"))


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=mutated())
def test_almost_good_bodies_are_read_as_the_exact_reader_reads_them(body: bytes) -> None:
    assert_read_alike(body)


def test_the_generator_makes_good_bodies_too() -> None:
    assert let_through(b'{"instances":[[1,2],[3,4]]}') is not None
    assert (
        let_through(b'{"signature_name":"two","instances":[{"a":1,"b":["x",{"b64":"aGk="}]}]}')
        is not None
    )


@pytest.mark.long
@settings(max_examples=50_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.one_of(mutated(), bodies.map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_many_more_of_both(body: bytes) -> None:
    assert_read_alike(body)
