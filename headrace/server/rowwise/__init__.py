"""Which signatures treat the rows of a request one by one, so that requests may run together and
none sees another's.

Proved from the graph, before anything runs: each operation between inputs and outputs must be one
that keeps rows apart, as it is used there. Whatever is not known to, does not.
"""

from __future__ import annotations

from typing import Any

from headrace.protocol.signatures import Signature, TensorSpec
from headrace.server.rowwise.graphs import Walk
from headrace.server.rowwise.rules import RULES
from headrace.server.rowwise.values import UNKNOWN, NotRowWise, Rows, Value, refuse


def reason(meta_graph: Any, signature: Signature) -> str:
    """Why the signature is not row-wise, "" when it is."""
    try:
        fed = {spec.tensor_name: _rows(spec) for spec in signature.inputs.values()}
        if not fed:
            refuse("it has no input")
        for spec in signature.outputs.values():
            _rows(spec)
        names = [spec.tensor_name for spec in signature.outputs.values()]
        found = Walk(meta_graph.graph_def, RULES).outputs(names, fed)
    except NotRowWise as why:
        return str(why)
    for alias, value in zip(signature.outputs, found, strict=True):
        if not isinstance(value, Rows) or value.per_row != 1:
            return f"output {alias} has not one entry for each row"
    return ""


def _rows(spec: TensorSpec) -> Value:
    if not spec.shape or spec.shape[0] != UNKNOWN:
        refuse(f"{spec.alias}: its first dimension is not free")
    return Rows(spec.shape[1:])
