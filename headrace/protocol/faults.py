"""A fault is what is wrong with one place of a request, held as facts and worded twice.

serving_text() says it as TensorFlow Serving would, for the server; our_text() says it for the
people behind the gateway: where, what came, what was expected. One table holds both wordings of
every kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

JsonPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """``kind`` names a row of the table; ``place`` the path inside the body; ``facts`` fill the
    wordings.

    ``facts["hint"]``, as " (did you mean x?)", follows our words. ``facts["row"]`` is there when
    TensorFlow Serving would wrap its words in `Failed to process element: ROW`; ``facts["key"]``
    then names the input, if the row is an object.
    """

    kind: str
    place: JsonPath = ()
    expected: str = ""
    got: str = ""
    offset: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pointer(self) -> str:
        """The place as a JSON pointer (RFC 6901): /instances/3/image."""
        return "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in self.place)

    @property
    def where(self) -> str:
        """The place as people write it: instances[3].image."""
        shown = (
            self.place if len(self.place) <= _SHOWN_DEPTH else (*self.place[:_SHOWN_DEPTH], "...")
        )
        return _written(shown)

    @property
    def parent(self) -> str:
        """Where that stands which lacks the place."""
        return _written(self.place[:-1])


def _written(place: JsonPath) -> str:
    text = ""
    for p in place:
        text += f"[{p}]" if isinstance(p, int) else (f".{p}" if text else p)
    return text or "body"


class _Kind(NamedTuple):
    """Two wordings, filled from where, parent, expected, got, offset and the facts.

    ``code`` is what the row wrapper says.
    """

    serving: str
    ours: str
    code: str = "INVALID_ARGUMENT"


def serving_text(fault: Fault) -> str:
    """TensorFlow Serving's words. Bytes of a body that are not UTF-8 are surrogate escapes in
    it."""
    kind = _KINDS[fault.kind]
    text = kind.serving.format_map(_fill(fault))
    if "row" not in fault.facts:
        return text
    key = fault.facts.get("key")
    named = "" if key is None else f"key: {key} "
    return (
        f"Failed to process element: {fault.facts['row']} {named}of 'instances' list. Error: "
        f"{kind.code}: {text}"
    )


def our_text(fault: Fault) -> str:
    """Our words; always valid Unicode."""
    return _clean(_KINDS[fault.kind].ours.format_map(_fill(fault)))


def details(fault: Fault) -> list[dict[str, Any]]:
    """The fault as data for a JSON answer: kind, place, and what is known of expected, got and
    offset."""
    row: dict[str, Any] = {
        "kind": fault.kind,
        "place": _clean(fault.where),
        "pointer": _clean(fault.pointer),
    }
    for name, value in (("expected", fault.expected), ("got", fault.got)):
        if value:
            row[name] = _clean(value)
    if fault.offset is not None:
        row["offset"] = fault.offset
    if hint := fault.facts.get("hint"):
        row["hint"] = _clean(hint.removeprefix(" (").removesuffix(")"))
    return [row]


def kinds() -> tuple[str, ...]:
    return tuple(_KINDS)


def _fill(fault: Fault) -> dict[str, Any]:
    return {
        "expected": fault.expected,
        "got": fault.got,
        "offset": fault.offset,
        "hint": "",
        **fault.facts,
        "where": fault.where,
        "parent": fault.parent,
    }


def _clean(text: str) -> str:
    """Without what could break a log line or an encoder: control characters escaped, stray bytes
    replaced."""
    if text.isprintable():
        return text
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# Of a place thousands of lists deep.
_SHOWN_DEPTH = 12
_GOT = "{where}: {got}, expected {expected}{hint}"

_KINDS: dict[str, _Kind] = {
    # The body as a whole.
    "empty_body": _Kind("JSON Parse error: The document is empty", _GOT),
    "syntax": _Kind(
        "JSON Parse error: {text} at offset: {offset}", "body: not JSON at byte {offset}: {reason}"
    ),
    "not_object": _Kind("JSON Value: {dump} Is not object", _GOT),
    "signature_name": _Kind(
        "JSON Value: {dump} not formatted correctly. 'signature_name' key must be a string value.",
        _GOT,
    ),
    "both_keys": _Kind(
        "JSON Value: {dump} Not formatted correctly expecting only one of 'inputs' or 'instances' "
        "keys to exist ",
        "body: both 'instances' and 'inputs', expected one of them",
    ),
    "no_keys": _Kind(
        "Missing 'inputs' or 'instances' key",
        "body: no 'instances' and no 'inputs', expected one of them{hint}",
    ),
    # What two readers of JSON may understand differently; TensorFlow Serving accepts these.
    "duplicate_key": _Kind(
        "{where}: the key is there twice", "{where}: the key is there twice, expected once"
    ),
    "trailing_bytes": _Kind(
        "bytes after the JSON object", "body: bytes after the JSON object, from byte {offset}"
    ),
    "byte_order_mark": _Kind(
        "byte order mark", "body: starts with a byte order mark, expected a JSON object"
    ),
    # Who is asked.
    "unknown_model": _Kind(
        "Servable not found for request: Latest({model})",
        'model "{model}" is not served here{hint}; the models are: {expected}',
    ),
    "unknown_label": _Kind(
        "Unrecognized servable version label: {label}",
        'model "{model}" has no version label "{label}"{hint}; its labels: {expected}',
    ),
    "unknown_signature": _Kind(
        'Serving signature name: "{signature}" not found in signature def',
        'signature_name: model "{model}" version {version} has no signature "{signature}"{hint}; '
        "it has {expected}",
    ),
    "no_inputs": _Kind(
        "Failed to get input map for signature: {signature}",
        "signature {signature}: takes no inputs, so REST cannot call it; gRPC can{hint}",
    ),
    # instances, inputs and the names in them.
    "instances_type": _Kind("JSON Value: {dump} Expecting 'instances' to be an list/array", _GOT),
    "instances_empty": _Kind("JSON Value: {dump} No values in 'instances' array", _GOT),
    "instances_plain": _Kind(
        "instances is a plain list, but expecting list of objects as multiple input tensors "
        "required as per "
        "tensorinfo_map",
        _GOT,
    ),
    "inputs_plain": _Kind(
        "inputs is a plain value/list, but expecting an object as multiple input tensors required "
        "as per "
        "tensorinfo_map",
        _GOT,
    ),
    "row_not_object": _Kind("Expecting object but got list at item {item} of input list", _GOT),
    "row_is_object": _Kind(
        "Expecting value/list but got object at item {item} of input list", _GOT
    ),
    "unknown_row_input": _Kind(
        "JSON object: does not have named input: {name}",
        "{where}: no such input, expected {expected}{hint}",
    ),
    "missing_row_inputs": _Kind(
        "Failed to process element: {item} of 'instances' list. JSON object: {dump} keys must be "
        "equal to: {names}",
        "{where}: {got}; expected {expected}{hint}",
    ),
    "missing_input": _Kind(
        "Missing named input: {name} in 'inputs' object.",
        "{parent}: {got}{hint}; expected {expected}",
    ),
    # The examples of classify and regress, and the features in them.
    "no_examples": _Kind(
        "JSON Value: {dump} When method is classify, key 'examples' is expected and was not found",
        "body: no 'examples', expected a list of objects{hint}",
    ),
    "examples_type": _Kind(
        "JSON Value: {dump} Expecting 'examples' value to be an list/array", _GOT
    ),
    "examples_empty": _Kind("JSON Value: {dump} 'examples' value is an empty array", _GOT),
    "example_type": _Kind("Example must be JSON object but got JSON {type}", _GOT),
    "feature_type": _Kind("Feature: {name} has element with unexpected JSON type: {type}", _GOT),
    "feature_kind": _Kind(
        "Unexpected element type in feature: {name} expecting type: {kind}", _GOT
    ),
    "feature_size": _Kind("Feature: {name} has uint64_t element. Only int64_t is supported.", _GOT),
    "no_example_sent": _Kind("Input is empty.", _GOT),
    "not_for_examples": _Kind(
        "Expected {method} signature",
        'signature_name: "{signature}" is not for {method}{hint}; for that there is {expected}',
    ),
    "task_model": _Kind(
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        "{where}: another model, expected {expected}",
    ),
    "task_method": _Kind("Unsupported signature method_name: {got}", _GOT),
    # Values.
    "value_type": _Kind("JSON Value: {dump} Type: {type} is not of expected type: {dtype}", _GOT),
    "base64_object": _Kind("JSON Value: {dump} not formatted correctly for base64 data", _GOT),
    "base64": _Kind("Unable to base64 decode", _GOT),
    "dtype_unsupported": _Kind(
        "Conversion of JSON Value: {dump} to type: {dtype}",
        "{where}: a {dtype} cannot be written in JSON; call it over gRPC",
        "UNIMPLEMENTED",
    ),
    # Shapes of nested lists.
    "list_size": _Kind(
        "Encountered list at unexpected size: {size} at level: {level} expected size: {wanted}",
        _GOT,
    ),
    "list_level": _Kind("Encountered list at unexpected level: {level} expected < {rank}", _GOT),
    "value_level": _Kind(
        "JSON Value: {dump} found at incorrect level: {level} in the JSON DOM. Expected at level: "
        "{rank}",
        _GOT,
    ),
    "row_size": _Kind("Expecting tensor size: {wanted} but got: {size}", _GOT),
    "row_shape": _Kind("Expecting shape {wanted} but got: {shape}", _GOT),
    "rank": _Kind("tensor parsing error: {name}", _GOT),
    # Bodies that are not JSON.
    "content_type": _Kind("{where}: {got}, expected {expected}", _GOT),
    "npy": _Kind("{where}: {got}, expected {expected}", _GOT),
    "npy_dtype": _Kind("{where}: {reason}", "{where}: {got}: {reason}"),
    # Against the signature.
    "unknown_input": _Kind(
        "input tensor alias not found in signature: {name}. Inputs expected to be in the set "
        "{{{names}}}.",
        "{where}: no such input, expected {expected}{hint}",
    ),
    "unknown_output": _Kind(
        "output tensor alias not found in signature: {name} Outputs expected to be in the set "
        "{{{expected}}}.",
        "{where}: no such output, expected {expected}{hint}",
    ),
    "tensor": _Kind("{where}: {reason}", "{where}: {reason}"),
    "input_dtype": _Kind("{where}: {got}, expected {expected}", _GOT),
    "input_shape": _Kind("{where}: {got}, expected {expected}", _GOT),
    "batch": _Kind("{where}: {got}, expected {expected}", _GOT),
}
