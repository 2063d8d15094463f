"""Which signatures treat each row of a request on its own, so that requests may run together
without any caller seeing another's data.

This is proved from the graph before anything runs: every operation between inputs and outputs must
be known to keep rows apart, in the way it is used. Any other operation refutes the proof.
"""

from __future__ import annotations

from typing import Any

from headrace.protocol.signatures import Signature, TensorSpec
from headrace.server.rowwise.graph_walk import GraphWalk
from headrace.server.rowwise.rules import RULES
from headrace.server.rowwise.values import UNKNOWN, NotRowWise, Rows, Value, refute


def reason(meta_graph: Any, signature: Signature) -> str | None:
    """Why the signature is not row-wise; None when it is."""
    try:
        feeds: dict[str, Value] = {}
        for spec in signature.inputs.values():
            feeds[spec.tensor_name] = _rows(spec)
        if not feeds:
            refute("it has no input")
        names = []
        for spec in signature.outputs.values():
            # The outputs, too, must be declared with a free first dimension.
            _rows(spec)
            names.append(spec.tensor_name)
        outputs = GraphWalk(meta_graph.graph_def, RULES).outputs(names, feeds)
    except NotRowWise as error:
        return str(error)
    for alias, value in zip(signature.outputs, outputs, strict=True):
        if not isinstance(value, Rows) or value.per_row != 1:
            return f"output {alias} does not have one entry for each row"
    return None


def _rows(spec: TensorSpec) -> Rows:
    if not spec.shape or spec.shape[0] != UNKNOWN:
        refute(f"{spec.alias}: its first dimension is not free")
    return Rows(spec.shape[1:])
