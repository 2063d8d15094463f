"""The body of a :classify or :regress call: JSON objects -> tf.Examples, as TensorFlow Serving
makes them.

A literal's kind decides the type of its feature: a real number makes it floats, an integer or a
boolean int64s, a string or {"b64": ...} bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.codec import envelope
from headrace.codec.duplicates import ambiguity
from headrace.codec.json.printer import dump, type_name
from headrace.codec.json.rapidjson import ANY_DEPTH, JsonObject
from headrace.codec.values import decoded_base64, described, is_base64
from headrace.protocol import messages
from headrace.protocol.faults import Fault, JsonPath
from headrace.protocol.refusals import refuse
from headrace.protocol.signatures import near_name

_INT64_MAX = (1 << 63) - 1
_EXPECTED = {
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
    # What TensorFlow Serving accepts and another reader may take for something else.
    ambiguity: Fault | None = None

    def names(self) -> list[str]:
        """The keys of the body."""
        return list(self.keys)


def parse(body: bytes, *, max_depth: int = ANY_DEPTH) -> ExamplesBody:
    document, signature_name = envelope.read(body, max_depth=max_depth)
    root: JsonObject = document.value
    message = messages.Input()
    holder = message.example_list
    if "context" in root:
        holder = message.example_list_with_context
        _fill(holder.context, root["context"], ("context",))
    for i, row in enumerate(_rows(root)):
        example = holder.examples.add()
        _fill(example, row, ("examples", i))

    return ExamplesBody(
        signature_name=signature_name,
        input=message,
        keys=tuple(root.names()),
        ambiguity=ambiguity(
            document,
            _KEYS,
            object_key="context",
            rows_key="examples",
        ),
    )


def _rows(root: JsonObject) -> list[Any]:
    place = ("examples",)
    if "examples" not in root:
        hint = ""
        for name in root.names():
            hint = near_name(name, place)
            if hint:
                break
        if not hint and ("instances" in root or "inputs" in root):
            hint = " (instances and inputs are for :predict)"
        refuse("no_examples", dump=dump(root), hint=hint)

    rows = root["examples"]
    if not isinstance(rows, list):
        refuse(
            "examples_type",
            place,
            "a list of objects",
            described(rows),
            dump=dump(root),
        )
    if not rows:
        refuse(
            "examples_empty",
            place,
            "at least one example",
            "an empty list",
            dump=dump(root),
        )
    return rows


def serialized(input_: Any) -> list[bytes]:
    """The Examples of an Input, each as the graph parses it: with the context, if there is one,
    before it."""
    context = b""
    listed = input_.example_list
    if input_.WhichOneof("kind") == "example_list_with_context":
        listed = input_.example_list_with_context
        context = listed.context.SerializeToString()
    return [context + example.SerializeToString() for example in listed.examples]


def _fill(example: Any, value: Any, place: JsonPath) -> None:
    if not isinstance(value, JsonObject):
        refuse(
            "example_type",
            place,
            _OBJECT,
            described(value),
            type=type_name(value),
        )
    features = example.features.feature
    # Of a name that is there twice, the last counts.
    for name, content in value.members:
        at = (*place, name)
        if isinstance(content, list):
            places = ((*at, i) for i in range(len(content)))
            feature = _feature(name, content, places)
        else:
            feature = _feature(name, [content], [at])
        features[_unicode(name)].CopyFrom(feature)


def _feature(name: str, values: Iterable[Any], places: Iterable[JsonPath]) -> Any:
    """All values of one kind, the first one's."""
    kind = None
    converted = []
    for value, place in zip(values, places, strict=True):
        value_kind = _kind(value)
        if value_kind is None:
            refuse(
                "feature_type",
                place,
                "a number, true, false or text",
                described(value),
                name=name,
                type=type_name(value),
            )
        if kind is not None and value_kind != kind:
            refuse(
                "feature_kind",
                place,
                _EXPECTED[kind],
                described(value),
                name=name,
                kind=kind,
            )
        kind = value_kind
        converted.append(_converted(name, value, place))

    feature = messages.Feature()
    if kind == "float":
        # Beyond float is infinite.
        with np.errstate(over="ignore"):
            floats = np.array(converted, np.float32)
        feature.float_list.value.extend(floats.tolist())
    elif kind == "int64":
        feature.int64_list.value.extend(converted)
    elif kind == "bytes":
        feature.bytes_list.value.extend(converted)
    return feature


def _kind(value: Any) -> str | None:
    if isinstance(value, float):
        return "float"
    # True and false are among them.
    if isinstance(value, int):
        return "int64"
    if isinstance(value, str) or is_base64(value):
        return "bytes"
    return None


def _converted(name: str, value: Any, place: JsonPath) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, JsonObject):
        data = decoded_base64(value["b64"])
        if data is None:
            refuse("base64", (*place, "b64"), "base64", described(value["b64"]))
        return data
    if isinstance(value, int) and value > _INT64_MAX:
        refuse(
            "feature_size",
            place,
            f"at most {_INT64_MAX}",
            described(value),
            name=name,
        )
    if isinstance(value, bool):
        return int(value)
    return value


def _unicode(name: str) -> str:
    """A map's key is text; bytes that are none are replaced."""
    if name.isascii():
        return name
    raw = name.encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "replace")
