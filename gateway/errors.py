"""How an error looks under /v1: TensorFlow Serving's {"error": ...} plus "details", and nothing of
the graph's insides."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

from headrace.protocol import faults
from headrace.protocol.errors import HeadraceError, InvalidArgument, Unavailable

# Goes with every 503: within a second the gateway looks again at what is in the way.
RETRY_AFTER = ("retry-after", "1")
_PROBLEM = b"application/problem+json"
# Faults of the path, not of the body; so they have no place in it.
_NOT_IN_THE_BODY = ("unknown_model", "unknown_label")

# What TensorFlow puts around the sentence that matters: names of nodes, functions and operations.
_GRAPH_NAMES = re.compile(
    # {{node model/dense/MatMul}}.
    r"\{\{(?:function_node|node|colocation_node) [^}]*\}\}\s*"
    # [[{{node model/dense/MatMul}}]].
    r"|\s*\[\[\{\{.*?\}\}.*?\]\]"
    # And on a line below it, [[model/dense/BiasAdd/_7]].
    r"|\s*\n\s*\[\[.*?\]\](?=\s|$)"
    r"|\s*\[Op:[^\]]*\](?: name:\s*\S*)?",
    re.DOTALL,
)
# What tf.debugging's assertions print of a tensor: its name, and in parentheses its name in the
# graph.
_ASSERTED_TENSOR = re.compile(r"\[(\w+) \(\S+:\d+\) = \]")
# Where a model was exported with debug information, the stack of the program that built it follows.
_STACK = re.compile(
    r"\s*(?:Stack trace for op definition|Detected at node|\S* ?defined at \(most recent call "
    r"last\)).*",
    re.DOTALL,
)
# Several operations failed at once: the first says enough.
_SEVERAL_ERRORS = re.compile(
    r"\d+ root error\(s\) found\.\s*\(0\) (?:[A-Z_]+|[A-Z][a-z]+(?: [a-z]+)*): (.*?)(?:\s*\(1\) "
    r".*)?$",
    re.DOTALL,
)
_ERROR_COUNTS = re.compile(
    r"\s*\d+ successful operations\.\s*\d+ derived errors ignored\.\s*", re.DOTALL
)


class MethodNotAllowed(InvalidArgument):
    http_status = 405

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not served on this path; {allowed} is")
        self.allowed = allowed


class BackendDown(Unavailable):
    """The backend could not be reached at all: nothing was sent, so nothing can have run."""


def answer(
    error: HeadraceError, *, accept: bytes = b"", request_id: str = "", status: int | None = None
) -> tuple[str, bytes]:
    """Content type and body of an error answer: RFC 9457's for callers that accept it, else
    TensorFlow Serving's. ``status`` is the error's own unless said."""
    if _PROBLEM in accept.lower():
        if status is None:
            status = error.http_status
        return _PROBLEM.decode(), _problem(error, request_id, status)
    return "application/json", body(error, request_id)


def body(error: HeadraceError, request_id: str = "") -> bytes:
    """The JSON body of an error answer, in TensorFlow Serving's format."""
    members: dict[str, Any] = {"error": error.message, "details": details(error)}
    if request_id:
        members["request_id"] = request_id
    return _json(members)


def details(error: HeadraceError) -> list[dict[str, Any]]:
    """What is known of the fault beside its text: kind, path, expected, got, hint."""
    if error.fault is None:
        return error.details
    return [_detail(fact) for fact in faults.details(error.fault)]


def backend_text(reply: bytes) -> str:
    """The sentence in a backend's error body, without names of the graph."""
    try:
        text = json.loads(reply.decode("utf-8", "replace"), strict=False)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "the serving backend answered with an error it did not explain"
    return without_graph(str(text))


def without_graph(text: str) -> str:
    """A TensorFlow error text without stacks and without names of nodes and functions."""
    several = _SEVERAL_ERRORS.match(_ERROR_COUNTS.sub("", text))
    if several is not None:
        text = several[1]
    text = _STACK.sub("", text)
    text = _GRAPH_NAMES.sub("", text)
    text = _ASSERTED_TENSOR.sub(r"[\1 =]", text).strip()
    return text or "the model could not be run on this input"


def _detail(fact: dict[str, Any]) -> dict[str, Any]:
    path, place = fact.pop("pointer"), fact.pop("place")
    if fact["kind"] in _NOT_IN_THE_BODY:
        return fact
    return {"path": path, **fact, "place": place}


def _problem(error: HeadraceError, request_id: str, status: int) -> bytes:
    return _json(
        {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": error.message,
            "details": details(error),
            "request_id": request_id,
        }
    )


def _json(members: dict[str, Any]) -> bytes:
    return json.dumps(members, indent=4, ensure_ascii=False).encode("utf-8", "replace")
