"""How an error looks on /v1: TensorFlow Serving's {"error": ...} plus "details", and nothing of the graph's insides."""

from __future__ import annotations

import json
import re
from typing import Any

from headrace.wire import faults
from headrace.wire.errors import HeadraceError, InvalidArgument, Unavailable

# What TensorFlow puts around the sentence that matters: node names, function names, the op.
_GRAPH_NOISE = re.compile(
    r"\{\{(?:function_node|node|colocation_node) [^}]*\}\}\s*"  # {{node model/dense/MatMul}}
    r"|\s*\[\[.*?\]\](?=\s|$)"  # [[model/dense/MatMul]]
    r"|\s*\[Op:[^\]]*\](?: name:\s*\S*)?",
    re.DOTALL,
)


class MethodNotAllowed(InvalidArgument):
    http_status = 405

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not served on this path; {allowed} is")
        self.allowed = allowed


class UnsupportedEncoding(InvalidArgument):
    http_status = 415


class RequestTimeout(InvalidArgument):
    http_status = 408


class BackendDown(Unavailable):
    """The backend could not be reached at all: nothing was sent, so nothing can have run."""


def body(error: HeadraceError) -> bytes:
    """The JSON body of an error answer."""
    text = json.dumps({"error": error.message, "details": _details(error)}, indent=4, ensure_ascii=False)
    return text.encode("utf-8", "replace")


def _details(error: HeadraceError) -> list[dict[str, Any]]:
    if error.fault is None:
        return []
    return [{"path": row.pop("pointer"), **row} for row in faults.details(error.fault)]


def backend_text(reply: bytes) -> str:
    """The sentence in a backend's error body, without node names."""
    try:
        text = json.loads(reply.decode("utf-8", "replace"), strict=False)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "the serving backend answered with an error it did not explain"
    return without_graph(str(text))


def without_graph(text: str) -> str:
    """A TensorFlow error text without the names of nodes and functions in the graph."""
    cleaned = _GRAPH_NOISE.sub("", text).strip()
    return cleaned or "the model could not be run on this input"
