"""What every call's body has in common: an object, read as RapidJSON reads it, and the
signature_name in it."""

from __future__ import annotations

from headrace.codec.json import rapidjson
from headrace.codec.json.printer import dump
from headrace.codec.json.rapidjson import Document, JsonObject, JsonSyntaxError
from headrace.codec.values import described
from headrace.protocol.refusals import refuse


def refuse_empty() -> None:
    refuse("empty_body", got="nothing", expected="a JSON object")


def read(body: bytes, *, max_depth: int = rapidjson.ANY_DEPTH) -> tuple[Document, str]:
    """The document, its value a JsonObject, and the signature's name, "" when there is none; or the
    first fault."""
    if not body:
        refuse_empty()
    try:
        document = rapidjson.read(body, max_depth=max_depth)
    except JsonSyntaxError as error:
        reason = error.text[0].lower() + error.text[1:].rstrip(".")
        refuse("syntax", offset=error.offset, text=error.text, reason=reason)
    value = document.value
    if not isinstance(value, JsonObject):
        refuse("not_object", (), "an object", described(value), dump=dump(value))
    name = value["signature_name"] if "signature_name" in value else ""
    if not isinstance(name, str):
        place = ("signature_name",)
        refuse("signature_name", place, "text", described(name), dump=dump(value))
    return document, name
