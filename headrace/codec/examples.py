"""The body of a :classify or :regress call: JSON objects -> tf.Examples, as TensorFlow Serving
makes them.

A literal's kind decides the type of its feature: a real number makes it floats, an integer or a
boolean int64s, a string or {"b64": ...} bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.codec import envelope
from headrace.codec.fastjson import first_duplicate
from headrace.codec.json.printer import dump, type_name
from headrace.codec.json.rapidjson import ANY_DEPTH, Document, JsonObject
from headrace.codec.values import decoded_base64, described, is_base64, refuse
from headrace.protocol import messages
from headrace.protocol.faults import Fault, JsonPath
from headrace.protocol.signatures import near_name

_INT64_MAX = (1 << 63) - 1
_ASKED_FOR = {
    "float": "a number with a point",
    "int64": "an integer",
    "bytes": 'text or {"b64": "..."}',
}
_OBJECT = "an object of features"
_KEYS = ("signature_name", "context", "examples")


@dataclass(frozen=True, slots=True)
class ExamplesBody:
    """``signature_name`` is "" when the body names none; ``input`` is a
    tensorflow.serving.Input."""

    signature_name: str
    input: Any
    keys: tuple[str, ...]
    ambiguity: Fault | None = (
        # What TensorFlow Serving accepts and another reader may take for something else.
        None
    )

    def names(self) -> list[str]:
        """The keys of the body."""
        return list(self.keys)


def parse(body: bytes, *, max_depth: int = ANY_DEPTH) -> ExamplesBody:
    document, signature_name = envelope.read(body, max_depth=max_depth)
    root: JsonObject = document.value
    found = messages.Input()
    holder = found.example_list
    if "context" in root:
        holder = found.example_list_with_context
        _fill(holder.context, root["context"], ("context",))
    if "examples" not in root:
        near = next((hint for name in root.names() if (hint := near_name(name, ("examples",)))), "")
        if not near and ("instances" in root or "inputs" in root):
            near = " (instances and inputs are for :predict)"
        refuse(Fault("no_examples", facts={"dump": dump(root), "hint": near}))
    rows = root["examples"]
    if not isinstance(rows, list):
        refuse(
            Fault(
                "examples_type",
                ("examples",),
                "a list of objects",
                described(rows),
                facts={"dump": dump(root)},
            )
        )
    if not rows:
        place, got = ("examples",), "an empty list"
        refuse(
            Fault("examples_empty", place, "at least one example", got, facts={"dump": dump(root)})
        )
    for i, row in enumerate(rows):
        _fill(holder.examples.add(), row, ("examples", i))
    return ExamplesBody(signature_name, found, tuple(root.names()), _ambiguity(document))


def _ambiguity(document: Document) -> Fault | None:
    if document.has_byte_order_mark:
        return Fault("byte_order_mark", offset=0)
    if document.has_trailing_bytes:
        return Fault("trailing_bytes", offset=document.end)
    root = document.value
    if twice := first_duplicate(root.names(), _KEYS):
        return Fault("duplicate_key", (twice,))
    rows = [(("examples", i), row) for i, row in enumerate(root["examples"])]
    for place, row in [*([(("context",), root["context"])] if "context" in root else []), *rows]:
        if twice := first_duplicate(row.names()):
            return Fault("duplicate_key", (*place, twice))
    return None


def serialized(found: Any) -> list[bytes]:
    """The Examples of an Input, each as the graph parses it: with the context, if there is one,
    before it."""
    if found.WhichOneof("kind") == "example_list_with_context":
        listed = found.example_list_with_context
        context = listed.context.SerializeToString()
        return [context + example.SerializeToString() for example in listed.examples]
    return [example.SerializeToString() for example in found.example_list.examples]


def _fill(example: Any, value: Any, place: JsonPath) -> None:
    if not isinstance(value, JsonObject):
        refuse(
            Fault(
                "example_type", place, _OBJECT, described(value), facts={"type": type_name(value)}
            )
        )
    features = example.features.feature
    # Of a name that is there twice, the last counts.
    for name, content in value.members:
        values = content if isinstance(content, list) else [content]
        at = (*place, name)
        places = ((*at, i) for i in range(len(values))) if values is content else iter((at,))
        features[_unicode(name)].CopyFrom(_feature(name, values, places))


def _feature(name: str, values: Iterable[Any], places: Iterator[JsonPath]) -> Any:
    """All values of one kind, the first one's."""
    kind, converted = "", []
    for value, place in zip(values, places, strict=True):
        its_kind = _kind(value)
        if not its_kind:
            facts = {"name": name, "type": type_name(value)}
            refuse(
                Fault(
                    "feature_type",
                    place,
                    "a number, true, false or text",
                    described(value),
                    facts=facts,
                )
            )
        if kind and its_kind != kind:
            refuse(
                Fault(
                    "feature_kind",
                    place,
                    _ASKED_FOR[kind],
                    described(value),
                    facts={"name": name, "kind": kind},
                )
            )
        kind = its_kind
        converted.append(_converted(name, value, place))
    feature = messages.Feature()
    if kind == "float":
        # Beyond float is infinite.
        with np.errstate(over="ignore"):
            feature.float_list.value.extend(np.array(converted, np.float32).tolist())
    elif kind == "int64":
        feature.int64_list.value.extend(converted)
    elif kind == "bytes":
        feature.bytes_list.value.extend(converted)
    return feature


def _kind(value: Any) -> str:
    if isinstance(value, float):
        return "float"
    # True and false are among them.
    if isinstance(value, int):
        return "int64"
    return "bytes" if isinstance(value, str) or is_base64(value) else ""


def _converted(name: str, value: Any, place: JsonPath) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, JsonObject):
        data = decoded_base64(value["b64"])
        if data is None:
            refuse(Fault("base64", (*place, "b64"), "base64", described(value["b64"])))
        return data
    if isinstance(value, int) and value > _INT64_MAX:
        refuse(
            Fault(
                "feature_size",
                place,
                f"at most {_INT64_MAX}",
                described(value),
                facts={"name": name},
            )
        )
    return int(value) if isinstance(value, bool) else value


def _unicode(name: str) -> str:
    """A map's key is text; bytes that are none are replaced."""
    return (
        name
        if name.isascii()
        else name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    )
