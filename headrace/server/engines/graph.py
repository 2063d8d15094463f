"""What a SavedModel says of itself: its meta graph, and what the kinds of operations in it mean for
running it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.protocol import messages

# Kinds whose CPU kernels end the process (a CHECK inside oneDNN, a segmentation fault) when a
# tensor of an unexpected rank reaches them. Seen by feeding wrong shapes to about a hundred kinds:
# Conv1D to 3D, depthwise, MaxPool3D, fused BatchMatMul, FakeQuant per channel. Their families are
# counted in; MatMul and the element-wise kinds answer cleanly.
_ABORTS_ON_WRONG_RANK = re.compile(
    r"Conv|Pool|BatchMatMul|Einsum|FakeQuant|Quantized|Dilation2D|_Fused|_Mkl|LRN|FusedBatchNorm"
)
# Together these are a normalisation over the instance; fused by oneDNN it divides by the number of
# elements.
_DIVIDES_BY_SIZE = frozenset({"Mean", "SquaredDifference", "Rsqrt"})
# Kinds that can keep a run going for long, or for ever, or for as long as a small picture is large
# unpacked: only these need TensorFlow's own timeout.
_MAY_TAKE_LONG = re.compile(
    r"While|NextIteration|PyFunc|Map|Reduce.*Dataset|Iterator|Queue|Barrier|Recv|Scan|Decode"
)


# Kinds whose output has a rank that only the content of a request decides.
_RANK_FROM_CONTENT = frozenset(
    {"DecodeImage", "ParseTensor", "DeserializeSparse", "DeserializeManySparse"}
)


@dataclass(frozen=True, slots=True)
class Traits:
    """``shapes_bind``: inputs must have the signature's ranks and fixed dimensions before this
    graph may see them. ``shapes_may_hide``: and still a tensor of another rank may come about, that
    no look at the inputs shows. ``empty_kills``: no input may be without elements.
    ``may_take_long``: the signatures whose part of the graph has to run where a timeout can stop
    it."""

    shapes_bind: bool = False
    shapes_may_hide: bool = False
    empty_kills: bool = False
    may_take_long: frozenset[str] = frozenset()


def traits(meta_graph: Any) -> Traits:
    graph = meta_graph.graph_def
    kinds = _kinds([*graph.node, *(node for f in graph.library.function for node in f.node_def)])
    binds = any(_ABORTS_ON_WRONG_RANK.search(kind) for kind in kinds)
    return Traits(
        shapes_bind=binds,
        shapes_may_hide=binds and (bool(kinds & _RANK_FROM_CONTENT) or _has_free_rank(meta_graph)),
        empty_kills=kinds >= _DIVIDES_BY_SIZE,
        may_take_long=frozenset(_long_signatures(meta_graph) if _may_take_long(kinds) else ()),
    )


def _may_take_long(kinds: Iterable[str]) -> bool:
    return any(_MAY_TAKE_LONG.search(kind) for kind in kinds)


def _long_signatures(meta_graph: Any) -> Iterator[str]:
    graph = meta_graph.graph_def
    nodes = {node.name: node for node in graph.node}
    functions = {f.signature.name: f.node_def for f in graph.library.function}
    for name, definition in meta_graph.signature_def.items():
        ends = [_node_name(info.name) for info in definition.outputs.values()]
        if _may_take_long(_kinds(_needed(ends, nodes, functions))):
            yield name


def _needed(
    ends: Iterable[str], nodes: Mapping[str, Any], functions: Mapping[str, Sequence[Any]]
) -> list[Any]:
    """All nodes that run to give these, and all that the functions they call hold, whatever of it a
    call needs."""
    seen = set(ends)
    waiting, run = list(seen), []
    while waiting:
        if (node := nodes.get(waiting.pop())) is not None:
            run.append(node)
            inputs = {_node_name(name) for name in node.input} - seen
            seen |= inputs
            waiting += inputs
    called = set[str]()
    # It grows by what each of them calls.
    for node in run:
        callees = {node.op, *_functions_of(node)} & functions.keys() - called
        called |= callees
        run += [inner for callee in callees for inner in functions[callee]]
    return run


def _functions_of(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        yield value.func.name
        yield from (each.name for each in value.list.func)


def _node_name(tensor: str) -> str:
    """Of "name:0", of "name", and of "^name", which only has to have run."""
    return tensor.removeprefix("^").partition(":")[0]


def _has_free_rank(meta_graph: Any) -> bool:
    """Whether a signature takes tensors of any rank."""
    return any(
        info.tensor_shape.unknown_rank or not info.HasField("tensor_shape")
        for definition in meta_graph.signature_def.values()
        for info in definition.inputs.values()
    )


def meta_graph(folder: Path, tags: Sequence[str], described: bytes) -> Any:
    """The MetaGraphDef with exactly these tags, as the artifact has it; ``described``, TensorFlow's
    copy, where the artifact is not a binary one."""
    path = folder / "saved_model.pb"
    if path.exists():
        for candidate in messages.parse(messages.SavedModel, path.read_bytes()).meta_graphs:
            if set(candidate.meta_info_def.tags) == set(tags):
                return candidate
    return messages.parse(messages.MetaGraphDef, described)


def _kinds(nodes: Iterable[Any]) -> frozenset[str]:
    return frozenset(node.op for node in nodes)
