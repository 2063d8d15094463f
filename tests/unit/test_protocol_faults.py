from __future__ import annotations

import re
import string

import pytest

from headrace.protocol import faults
from headrace.protocol.faults import Fault


def test_a_place_is_written_for_people_and_as_a_pointer() -> None:
    fault = Fault("value_type", ("instances", 3, "image", 0, 2))
    assert fault.where == "instances[3].image[0][2]"
    assert fault.pointer == "/instances/3/image/0/2"
    assert Fault("value_type", ("inputs", "a/b~c")).pointer == "/inputs/a~1b~0c"
    assert Fault("empty_body").where == "body"


def test_a_place_thousands_deep_is_cut() -> None:
    assert len(Fault("value_type", ("inputs", *range(5000))).where) < 100


@pytest.mark.parametrize("kind", faults.kinds())
def test_both_wordings_of_a_kind_can_be_filled(kind: str) -> None:
    row = faults._KINDS[kind]
    names = {
        name
        for text in (row.serving, row.ours)
        for _, name, _, _ in string.Formatter().parse(text)
        if name
    }
    facts = {name: f"<{name}>" for name in names - {"where", "parent", "expected", "got", "offset"}}
    fault = Fault(kind, ("inputs", "x"), "<expected>", "<got>", 7, facts)
    assert {
        name for name in facts if f"<{name}>" in faults.serving_text(fault) + faults.our_text(fault)
    } == set(facts)


def test_a_fault_in_a_row_is_wrapped_as_tf_serving_does() -> None:
    facts = {"dump": '"a"', "type": "String", "dtype": "float", "row": 3}
    assert faults.serving_text(Fault("value_type", facts=facts)) == (
        "Failed to process element: 3 of 'instances' list. Error: INVALID_ARGUMENT: "
        'JSON Value: "a" Type: String is not of expected type: float'
    )
    named = Fault("dtype_unsupported", facts={"dump": "1", "dtype": "half", "row": 0, "key": "x"})
    assert faults.serving_text(named) == (
        "Failed to process element: 0 key: x of 'instances' list. Error: UNIMPLEMENTED: "
        "Conversion of JSON Value: 1 to type: half"
    )


def test_facts_with_braces_are_not_taken_for_templates() -> None:
    fault = Fault(
        "value_type",
        ("inputs", "{x}"),
        "a number",
        "{got}",
        facts={"dump": "{}", "type": "Object", "dtype": "t"},
    )
    assert faults.our_text(fault) == "inputs.{x}: {got}, expected a number"
    assert faults.serving_text(fault) == "JSON Value: {} Type: Object is not of expected type: t"


def test_our_text_is_one_clean_line() -> None:
    fault = Fault("value_type", ("inputs", "a\nb\x1b"), "x", "\udcff")
    text = faults.our_text(fault)
    assert text == "inputs.a\\nb\\x1b: \ufffd, expected x"
    assert re.fullmatch(r"[^\n]+", text)


def test_details_are_data_without_what_is_not_known() -> None:
    fault = Fault("list_size", ("inputs", "x", 1), "a list of 2", "a list of 3")
    assert faults.details(fault) == [
        {
            "kind": "list_size",
            "place": "inputs.x[1]",
            "pointer": "/inputs/x/1",
            "expected": "a list of 2",
            "got": "a list of 3",
        }
    ]
    assert faults.details(Fault("syntax", offset=5)) == [
        {"kind": "syntax", "place": "body", "pointer": "", "offset": 5}
    ]
