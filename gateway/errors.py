"""How an error looks on /v1: TensorFlow Serving's {"error": ...} plus "details", and nothing of the
graph's insides."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

from headrace.protocol import faults
from headrace.protocol.errors import HeadraceError, InvalidArgument, Unavailable

# What TensorFlow puts around the sentence that matters: node names, function names, the op.
_GRAPH_NOISE = re.compile(
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
_ASSERTED = re.compile(r"\[(\w+) \(\S+:\d+\) = \]")
# Where a model was exported with debug information, the stack of the program that built it follows.
_STACK = re.compile(
    r"\s*(?:Stack trace for op definition|Detected at node|\S* ?defined at \(most recent call "
    r"last\)).*",
    re.DOTALL,
)
# Several operations failed at once: the first says enough.
_ROOT_ERRORS = re.compile(
    r"\d+ root error\(s\) found\.\s*\(0\) (?:[A-Z_]+|[A-Z][a-z]+(?: [a-z]+)*): (.*?)(?:\s*\(1\) "
    r".*)?$",
    re.DOTALL,
)
_LEFTOVERS = re.compile(
    r"\s*\d+ successful operations\.\s*\d+ derived errors ignored\.\s*", re.DOTALL
)

_NOT_IN_THE_BODY = ("unknown_model", "unknown_label")
# With every 503: what is in the way is looked at again within a second.
RETRY_AFTER = ("retry-after", "1")
_PROBLEM = b"application/problem+json"


class MethodNotAllowed(InvalidArgument):
    http_status = 405

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not served on this path; {allowed} is")
        self.allowed = allowed


class BackendDown(Unavailable):
    """The backend could not be reached at all: nothing was sent, so nothing can have run."""


def answer(
    error: HeadraceError, *, accept: bytes = b"", request_id: str = "", status: int = 0
) -> tuple[str, bytes]:
    """Content type and body of an error answer: RFC 9457's for those who ask for it, else
    TensorFlow Serving's."""
    if _PROBLEM in accept.lower():
        return _PROBLEM.decode(), _problem(error, request_id, status or error.http_status)
    return "application/json", body(error, request_id)


def body(error: HeadraceError, request_id: str = "") -> bytes:
    """The JSON body of an error answer."""
    return _json(
        {
            "error": error.message,
            "details": details(error),
            **({"request_id": request_id} if request_id else {}),
        }
    )


def details(error: HeadraceError) -> list[dict[str, Any]]:
    """What is known of the fault beside its words: kind, path, expected, got, hint."""
    if error.fault is None:
        return error.details
    return [_row(row) for row in faults.details(error.fault)]


def _row(told: dict[str, Any]) -> dict[str, Any]:
    path, place = told.pop("pointer"), told.pop("place")
    return told if told["kind"] in _NOT_IN_THE_BODY else {"path": path, **told, "place": place}


def _problem(error: HeadraceError, request_id: str, status: int) -> bytes:
    told = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message,
        "details": details(error),
        "request_id": request_id,
    }
    return _json(told)


def _json(told: dict[str, Any]) -> bytes:
    return json.dumps(told, indent=4, ensure_ascii=False).encode("utf-8", "replace")


def backend_text(reply: bytes) -> str:
    """The sentence in a backend's error body, without node names."""
    try:
        text = json.loads(reply.decode("utf-8", "replace"), strict=False)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "the serving backend answered with an error it did not explain"
    return without_graph(str(text))


def without_graph(text: str) -> str:
    """A TensorFlow error text without the names of nodes and functions in the graph, and without
    stacks."""
    if several := _ROOT_ERRORS.match(_LEFTOVERS.sub("", text)):
        text = several[1]
    cleaned = _ASSERTED.sub(r"[\1 =]", _GRAPH_NOISE.sub("", _STACK.sub("", text))).strip()
    return cleaned or "the model could not be run on this input"
