"""What the graph of a SavedModel means for running it: which operations may end the process or take
long."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.protocol import messages

# Operations whose CPU kernels end the process (by a CHECK inside oneDNN or a segmentation fault)
# when they get a tensor of an unexpected rank. Found by feeding wrong shapes to about a hundred
# operations: Conv1D to 3D, depthwise, MaxPool3D, fused BatchMatMul and FakeQuant per channel do so,
# and their families are included. MatMul and element-wise operations answer with an error.
_ABORTS_ON_WRONG_RANK = re.compile(
    r"Conv|Pool|BatchMatMul|Einsum|FakeQuant|Quantized|Dilation2D|_Fused|_Mkl|LRN|FusedBatchNorm"
)
# Together these are an instance normalization, which oneDNN fuses and divides by the number of
# elements.
_DIVIDES_BY_SIZE = frozenset({"Mean", "SquaredDifference", "Rsqrt"})
# Operations that can run for long or for ever, or that turn a small picture into a large tensor.
# Only these need TensorFlow's own timeout.
_MAY_TAKE_LONG = re.compile(
    r"While|NextIteration|PyFunc|Map|Reduce.*Dataset|Iterator|Queue|Barrier|Recv|Scan|Decode"
)
# Operations whose output has a rank that depends on the content of the request.
_RANK_FROM_CONTENT = frozenset(
    {"DecodeImage", "ParseTensor", "DeserializeSparse", "DeserializeManySparse"}
)


@dataclass(frozen=True, slots=True)
class Traits:
    """``shapes_bind``: inputs must have the signature's ranks and fixed dimensions, or the process
    may end. ``shapes_may_hide``: even so, a tensor of another rank may arise inside the graph.
    ``empty_kills``: every input must have elements. ``may_take_long``: signatures that must run
    where a timeout can stop them."""

    shapes_bind: bool = False
    shapes_may_hide: bool = False
    empty_kills: bool = False
    may_take_long: frozenset[str] = frozenset()


def traits(meta_graph: Any) -> Traits:
    graph = meta_graph.graph_def
    nodes = list(graph.node)
    for function in graph.library.function:
        nodes.extend(function.node_def)
    operations = {node.op for node in nodes}
    binds = any(_ABORTS_ON_WRONG_RANK.search(operation) for operation in operations)
    has_hidden_ranks = bool(operations & _RANK_FROM_CONTENT) or _has_free_rank(meta_graph)
    return Traits(
        shapes_bind=binds,
        shapes_may_hide=binds and has_hidden_ranks,
        empty_kills=operations >= _DIVIDES_BY_SIZE,
        may_take_long=_long_signatures(meta_graph) if _may_take_long(nodes) else frozenset(),
    )


def meta_graph(folder: Path, tags: Sequence[str], serialized: bytes) -> Any:
    """The MetaGraphDef with exactly these tags from the SavedModel's file; ``serialized`` is
    TensorFlow's copy, for a SavedModel in another format."""
    path = folder / "saved_model.pb"
    if path.exists():
        saved_model = messages.parse(messages.SavedModel, path.read_bytes())
        for candidate in saved_model.meta_graphs:
            if set(candidate.meta_info_def.tags) == set(tags):
                return candidate
    return messages.parse(messages.MetaGraphDef, serialized)


def _may_take_long(nodes: Iterable[Any]) -> bool:
    return any(_MAY_TAKE_LONG.search(node.op) for node in nodes)


def _long_signatures(meta_graph: Any) -> frozenset[str]:
    graph = meta_graph.graph_def
    nodes = {node.name: node for node in graph.node}
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    names = set()
    for name, definition in meta_graph.signature_def.items():
        outputs = [_node_name(info.name) for info in definition.outputs.values()]
        if _may_take_long(_nodes_run_for(outputs, nodes, functions)):
            names.add(name)
    return frozenset(names)


def _nodes_run_for(
    outputs: Iterable[str], nodes: Mapping[str, Any], functions: Mapping[str, Sequence[Any]]
) -> list[Any]:
    """All nodes that these outputs depend on, and all nodes of the functions that are called."""
    visited = set(outputs)
    stack = list(visited)
    run: list[Any] = []
    while stack:
        node = nodes.get(stack.pop())
        if node is None:
            continue
        run.append(node)
        inputs = {_node_name(name) for name in node.input} - visited
        visited |= inputs
        stack.extend(inputs)
    called: set[str] = set()
    # The list grows while it is walked, by the nodes of each function that is called.
    for node in run:
        for name in (node.op, *_function_attributes(node)):
            if name in functions and name not in called:
                called.add(name)
                run.extend(functions[name])
    return run


def _function_attributes(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        yield value.func.name
        for function in value.list.func:
            yield function.name


def _node_name(tensor: str) -> str:
    """The node of "name:0", of "name", and of the control input "^name"."""
    return tensor.removeprefix("^").partition(":")[0]


def _has_free_rank(meta_graph: Any) -> bool:
    """Whether a signature takes tensors of any rank."""
    for definition in meta_graph.signature_def.values():
        for info in definition.inputs.values():
            if info.tensor_shape.unknown_rank or not info.HasField("tensor_shape"):
                return True
    return False
