from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.codec.json import grisu
from headrace.codec.json.printer import dump, quoted, type_name
from headrace.codec.json.rapidjson import MOST_HOLDERS, JsonObject, JsonSyntaxError, read

EMPTY = "The document is empty."
VALUE = "Invalid value."
NAME = "Missing a name for object member."
COLON = "Missing a colon after a name of object member."
MEMBER = "Missing a comma or '}' after an object member."
ELEMENT = "Missing a comma or ']' after an array element."
ESCAPE = "Invalid escape character in string."
QUOTE = "Missing a closing quotation mark in string."
HEX = "Incorrect hex digit after \\u escape in string."
SURROGATE = "The surrogate pair in string is invalid."
TOO_BIG = "Number too big to be stored in double."
FRACTION = "Miss fraction part in number."
EXPONENT = "Miss exponent in number."


def plain(value: Any) -> Any:
    """Objects as ("object", members), so that they compare."""
    if isinstance(value, JsonObject):
        return "object", [(name, plain(inner)) for name, inner in value.members]
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("body", "text", "offset"),
    [
        (b"", EMPTY, 0),
        (b"   ", EMPTY, 3),
        (b"]", EMPTY, 0),
        (b"\xef\xbb\xbf", EMPTY, 3),
        (b"+1", VALUE, 0),
        (b"[", VALUE, 1),
        (b"[1,]", VALUE, 3),
        (b"[,1]", VALUE, 1),
        (b"[1", ELEMENT, 2),
        (b"[1 2]", ELEMENT, 3),
        (b"[01]", ELEMENT, 2),
        (b"[1.5.5]", ELEMENT, 4),
        (b"[1}", ELEMENT, 2),
        (b"{", NAME, 1),
        (b"{,}", NAME, 1),
        (b'{"a":1,}', NAME, 7),
        (b"{1:2}", NAME, 1),
        (b'{"a"', COLON, 4),
        (b'{"a" 1}', COLON, 5),
        (b'{"a":', VALUE, 5),
        (b'{"a":}', VALUE, 5),
        (b'{"a":1', MEMBER, 6),
        (b'{"a":1]', MEMBER, 6),
        (b"[nul]", VALUE, 4),
        (b"[trux]", VALUE, 4),
        (b"not json", VALUE, 1),
        (b"[-]", VALUE, 2),
        (b"[-x]", VALUE, 2),
        (b"[.5]", VALUE, 1),
        (b"[aInf]", VALUE, 1),
        (b"[Na]", VALUE, 3),
        (b"[Infi]", VALUE, 5),
        (b"[Infinitx]", VALUE, 8),
        (b"[-Infinit", VALUE, 9),
        (b"[1.]", FRACTION, 3),
        (b"[1.e5]", FRACTION, 3),
        (b"[1e]", EXPONENT, 3),
        (b"[1e+]", EXPONENT, 4),
        (b"[1.5E-x]", EXPONENT, 6),
        (b"[1e309]", TOO_BIG, 1),
        (b"[1, 2,\n -1e999 , 3]", TOO_BIG, 8),
        (b"[" + b"9" * 400 + b"]", TOO_BIG, 1),
        (b'["a', QUOTE, 3),
        (b'["a\0"]', QUOTE, 3),
        (b'["a\x01"]', ESCAPE, 3),
        (b'["ab\\x"]', ESCAPE, 4),
        (b'["\\', ESCAPE, 2),
        (b'["\\u12G4"]', HEX, 2),
        (b'["\\ud800"]', SURROGATE, 2),
        (b'["\\ud800\\u0041"]', SURROGATE, 2),
        (b'["\\ud800\\u004"]', HEX, 2),
        (b"[1,\0 2]", VALUE, 3),
    ],
)
def test_what_is_not_json_is_told_in_rapidjsons_words(body: bytes, text: str, offset: int) -> None:
    with pytest.raises(JsonSyntaxError) as caught:
        read(body)
    assert (caught.value.text, caught.value.offset) == (text, offset)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b" [ ] ", []),
        (b"{}", ("object", [])),
        (b'{"a":1,"a":[{}]}', ("object", [("a", 1), ("a", [("object", [])])])),
        (b"[-0, 0, -0.0]", [0, 0, -0.0]),
        (b"[18446744073709551615, -9223372036854775808]", [(1 << 64) - 1, -(1 << 63)]),
        (b"[18446744073709551616, -9223372036854775809]", [float(1 << 64), -float(1 << 63)]),
        (b"[1e2, 1E-2, 1.5e+3]", [100.0, 0.01, 1500.0]),
        (b"[[1, 2.5], [], [1e5], 3]", [[1, 2.5], [], [1e5], 3]),
        (
            b"[Inf, -Inf, Infinity, -Infinity, NInf, NaInf]",
            [math.inf, -math.inf, math.inf, -math.inf, math.inf, math.inf],
        ),
        (b'["\\u00e9\\ud83d\\ude00\\n\\/\\"", "\xc3\xa9"]', ['\u00e9\U0001f600\n/"', "\u00e9"]),
        (b'["\\u0000"]', ["\0"]),
        (b"null", None),
        (b" true", True),
        (b'"x"', "x"),
        (b"7", 7),
    ],
)
def test_what_rapidjson_accepts(body: bytes, value: Any) -> None:
    found = plain(read(body).value)
    assert found == value
    assert repr(found) == repr(value)  # 1 is not 1.0, and -0.0 is not 0


def test_every_nan_is_read() -> None:
    assert all(math.isnan(x) for x in read(b"[NaN, -NaN]").value)


def test_strings_keep_bytes_that_are_not_utf8() -> None:
    for body, raw in ((b'["\xff"]', b"\xff"), (b'["\\udc00"]', b"\xed\xb0\x80")):
        (text,) = read(body).value
        assert text.encode("utf-8", "surrogateescape") == raw


@pytest.mark.parametrize(
    ("body", "end", "mark", "trailing"),
    [
        (b"[1]", 3, False, False),
        (b"[1] \n", 3, False, False),
        (b"[1]x", 3, False, True),
        (b"[1]\0", 3, False, True),
        (b"\xef\xbb\xbf[1]", 6, True, False),
        (b"\xbb[1]]", 4, True, True),
    ],
)
def test_what_stands_around_the_value_is_noted(
    body: bytes, end: int, mark: bool, trailing: bool
) -> None:
    document = read(body)
    assert (document.end, document.has_byte_order_mark, document.has_trailing_bytes) == (
        end,
        mark,
        trailing,
    )


def test_the_first_of_a_name_counts_and_all_are_kept() -> None:
    found = read(b'{"a":1,"b":2,"a":3}').value
    assert (found["a"], found["b"], "c" in found, len(found), found.names()) == (
        1,
        2,
        False,
        3,
        ["a", "b", "a"],
    )


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 500_000 + b"]" * 500_000,
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b"[" * 200_000,
        b'["' + b"\\u0041" * 200_000 + b'"]',
        b"[" + b"[1.5]," * 200_000 + b"x]",
        b"[" + b"1," * 500_000 + b"12345678901234567890123,1]",
        b"[" + b"12345678901234567890123," * 50_000 + b"1]",
        b"[" + b"[1,2" * 200_000,
        b"9" * 1_000_000,
        b" " * 10_000_000,
    ],
    ids=[
        "lists",
        "objects",
        "unclosed",
        "escapes",
        "lists-of-one",
        "late-doubt",
        "doubts",
        "half-lists",
        "digits",
        "blanks",
    ],
)
def test_no_body_takes_more_than_linear_time(body: bytes) -> None:
    start = time.process_time()
    try:
        dump(read(body).value)
    except JsonSyntaxError:
        pass
    assert time.process_time() - start < 5  # a quadratic reader needs hours


numbers = st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


@settings(max_examples=300, deadline=None)
@given(documents, st.sampled_from([None, 1]), st.booleans())
def test_strict_json_reads_as_the_standard_library_does(
    document: Any, indent: int | None, ascii_only: bool
) -> None:
    body = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    )
    expected = json.loads(body.decode("utf-8", "replace"), object_pairs_hook=JsonObject)
    try:
        found = read(body).value
    except JsonSyntaxError as error:
        assert error.text == SURROGATE and ascii_only  # a lone surrogate that json.dumps wrote
    else:
        if "\\ud" not in body.decode("utf-8", "replace"):
            assert repr(plain(found)) == repr(plain(expected))


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=40)
    | st.text('[]{},:"0123456789.-+eEINaftnulr \\', max_size=40).map(str.encode)
)
def test_any_bytes_are_read_or_refused_at_an_offset_inside(body: bytes) -> None:
    try:
        document = read(body)
    except JsonSyntaxError as error:
        assert 0 <= error.offset <= len(body)
    else:
        assert 0 < document.end <= len(body)
        dump(document.value)


def test_the_dump_is_pretty_with_arrays_on_one_line() -> None:
    value = read(
        b'{"a":{"b":[],"c":{}},"d":[[1],{"x":1e-7,"y":"\\"\\\\\\u0001\\n/"},null,true]}'
    ).value
    expected = """{
    "a": {
        "b": [],
        "c": {}
    },
    "d": [[1], {
            "x": 1e-7,
            "y": "\\"\\\\\\u0001\\n/"
        }, null, true]
}"""
    assert dump(value) == expected


def test_the_dump_stops_at_256_bytes_however_long_the_value() -> None:
    assert dump(["x" * 10_000_000])[:5] == '["xxx'
    for value in (["x" * 1000], list(range(1000)), read(b"[" * 1000 + b"]" * 1000).value):
        assert len(dump(value)) == 256
    assert len(dump("\u00e9" * 200).encode("utf-8", "surrogateescape")) == 256


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (123456789.125, "123456789.125"),
        (1e20, "100000000000000000000.0"),
        (1e21, "1e21"),
        (1.5e22, "1.5e22"),
        (1e-6, "0.000001"),
        (1.25e-7, "1.25e-7"),
        (5e-324, "5e-324"),
        (float(1 << 64), "18446744073709553000.0"),  # as recorded
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        (1 << 63, "9223372036854775808"),
    ],
)
def test_numbers_are_dumped_as_rapidjson_prints_them(value: float, text: str) -> None:
    assert dump(value) == text


@given(st.floats(min_value=5e-324, allow_infinity=False))
def test_grisus_digits_read_back(value: float) -> None:
    digits, power = grisu.digits(value)
    assert float(f"{digits}e{power}") == value


def test_quoted_escapes_what_must_be_and_nothing_else() -> None:
    assert quoted(b'a"\\\b\f\n\r\t\x1f/\x7f\xff') == b'"a\\"\\\\\\b\\f\\n\\r\\t\\u001F/\x7f\xff"'


def test_kinds_of_values_have_rapidjsons_names() -> None:
    values = [None, True, False, 1, 1.5, "x", [], JsonObject([])]
    assert [type_name(v) for v in values] == [
        "Null",
        "True",
        "False",
        "Number",
        "Number",
        "String",
        "Array",
        "Object",
    ]


def test_nesting_beyond_the_given_depth_is_refused_with_its_place() -> None:
    assert read(b'{"a":[[1]]}', max_depth=3).value["a"] == [[1]]
    with pytest.raises(JsonSyntaxError, match="Nested deeper than 2") as refused:
        read(b'{"a":[[1]]}', max_depth=2)
    assert refused.value.offset == 6


@pytest.mark.parametrize("unit", [b"[],", b"{},", b'"\\n",'])
def test_more_lists_objects_or_escapes_than_can_be_paid_for_are_refused(unit: bytes) -> None:
    with pytest.raises(JsonSyntaxError, match="lists, objects and escapes"):
        read(b"[" + unit * MOST_HOLDERS + b"0]")
