"""The body of a :predict call: parse_predict() reads one for the server and the gateway,
build_predict() writes one.

Two ways through. The fast one has simdjson parse, copies numbers straight into a buffer and proves
the shape by the body's skeleton; whatever it is not sure of takes the exact one, which also words
every fault.
"""

from __future__ import annotations

import json

from simdjson import Object

from headrace.codec import envelope, fastjson, shape_error
from headrace.codec.arrays import Tensors, from_object
from headrace.codec.duplicates import ambiguity, duplicate_key
from headrace.codec.json import parsers, rapidjson
from headrace.codec.json.rapidjson import Document, JsonObject
from headrace.codec.writer import build_predict
from headrace.protocol.faults import Fault
from headrace.protocol.refusals import refuse
from headrace.protocol.signatures import Signature

__all__ = ["PredictBody", "Tensors", "build_predict", "parse_predict"]

# A byte order mark, which RapidJSON also skips in part.
_KEYS = ("signature_name", "instances", "inputs")
_OBJECTS = {"object_key": "inputs", "rows_key": "instances"}
_LEADING = b"\xef\xbb\xbf"


def parse_predict(body: bytes, *, max_depth: int = rapidjson.ANY_DEPTH) -> PredictBody:
    """Syntax, top level and signature_name are checked here; what the signature says, in
    tensors()."""
    if not body:
        envelope.refuse_empty()
    if len(body) > rapidjson.MOST_HOLDERS and body.count(b"{") > rapidjson.MOST_HOLDERS:
        # Refuses it, before any quick way through looks at each object.
        envelope.read(body, max_depth=max_depth)
    return PredictBody(body, max_depth)


class PredictBody:
    """A body that is a JSON object. ``signature_name`` is "" when it names none."""

    __slots__ = ("_body", "_document", "_max_depth", "_parser", "_root", "signature_name")

    signature_name: str

    def __init__(self, body: bytes, max_depth: int) -> None:
        self._body = body
        self._max_depth = max_depth
        self._document: Document | None = None
        self._root: Object | None = None
        self._parser = parsers.borrow()
        try:
            root = self._parser.parse(body)
        except (ValueError, RuntimeError):
            # RuntimeError: deeper than simdjson goes.
            root = None
        if isinstance(root, Object) and body[0] not in _LEADING:
            # Asked for what is not there, simdjson throws in C++, which takes longer than reading
            # the names.
            name = root["signature_name"] if "signature_name" in root.keys() else ""
            if isinstance(name, str):
                self._root = root
                self.signature_name = name
                return
        del root
        self._read_exactly()

    def __del__(self) -> None:
        # The document goes before its parser may be used again.
        self._root = None
        parsers.give_back(self._parser, len(self._body))

    def tensors(self, signature: Signature) -> Tensors:
        """The inputs as arrays, converted as TensorFlow Serving does; InvalidArgument with the
        first fault's place."""
        if not signature.inputs:
            refuse("no_inputs", signature=self.signature_name or "DEFAULT")
        if self._root is not None:
            fast = fastjson.tensors(self._body, self._root, signature.inputs)
            if fast is not None:
                return fast
        return from_object(self._object(), signature)

    def explain(self, signature: Signature) -> None:
        """For a body that was refused: raises what its first misfit is, if the signature's shapes
        tell more."""
        if signature.inputs:
            shape_error.refuse_first(self._object(), signature)

    def names(self) -> list[str]:
        """The keys of the body."""
        return list(self._root) if self._root is not None else self._object().names()

    def ambiguity(self) -> Fault | None:
        """What TensorFlow Serving accepts and another reader of JSON may take for something
        else."""
        if self._root is not None:
            return duplicate_key(self._root, _KEYS, **_OBJECTS)
        return ambiguity(self._read(), _KEYS, **_OBJECTS)

    def _object(self) -> JsonObject:
        document = self._read()
        assert isinstance(document.value, JsonObject)
        return document.value

    def _read(self) -> Document:
        if self._document is None:
            self._document = self._loaded()
        if self._document is None:
            self._document, _ = envelope.read(self._body, max_depth=self._max_depth)
        return self._document

    def _loaded(self) -> Document | None:
        """What simdjson has accepted, the standard library reads as RapidJSON does, and faster than
        we can."""
        if rapidjson.count_holders(self._body) > rapidjson.MOST_HOLDERS:
            return None
        try:
            value = json.loads(self._body.decode(), object_pairs_hook=JsonObject)
        except (ValueError, RecursionError):
            return None
        return Document(value, len(self._body), False, False)

    def _read_exactly(self) -> None:
        self._document, self.signature_name = envelope.read(self._body, max_depth=self._max_depth)
