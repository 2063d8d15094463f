"""Walks a graph from its inputs to a signature's outputs, through functions too, and applies the
rule of each operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from headrace.server.rowwise.values import Mixed, NotRowWise, Value, Values, refute

# The outputs of an operation, by name and in order.
Outputs = Mapping[str, Values]
Rule = Callable[["Node", Values], Value | Values | Outputs]

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_MAX_DEPTH = 50


class Node:
    """A NodeDef. Each attribute has a default, as exports may leave it out."""

    __slots__ = ("_node_def", "name", "op")

    def __init__(self, node_def: Any) -> None:
        self._node_def = node_def
        self.name: str = node_def.name
        self.op: str = node_def.op

    def attr(self, name: str) -> Any:
        """An AttrValue, or None."""
        if name not in self._node_def.attr:
            return None
        return self._node_def.attr[name]

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.attr(name)
        if value is None:
            return default
        return bool(value.b)

    def number(self, name: str, default: int = 0) -> int:
        value = self.attr(name)
        if value is None:
            return default
        return int(value.i)

    def text(self, name: str, default: str = "") -> str:
        value = self.attr(name)
        if value is None:
            return default
        return str(value.s.decode())

    def numbers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        value = self.attr(name)
        if value is None:
            return list(default)
        return [int(number) for number in value.list.i]


class GraphWalk:
    """An operation that has no rule may do anything, and refutes the proof."""

    def __init__(self, graph_def: Any, rules: Mapping[str, Rule]) -> None:
        self._nodes = _by_name(graph_def.node)
        self._functions: dict[str, Any] = {}
        for function in graph_def.library.function:
            self._functions[function.signature.name] = function
        self._rules = rules
        self._depth = 0

    def outputs(self, tensor_names: Iterable[str], feeds: Mapping[str, Value]) -> list[Value]:
        """The values of tensors such as "x:0" in the main graph, given the values of its inputs."""
        names = [_canonical(name) for name in tensor_names]
        canonical_feeds = {}
        for name, value in feeds.items():
            canonical_feeds[_canonical(name)] = value

        scope = _Scope(self, self._nodes, canonical_feeds, is_main=True)
        for name in names:
            if name not in canonical_feeds:
                scope.evaluate(_node_name(name))
        return [scope.value(name) for name in names]

    def call(self, name: str, args: Values) -> Outputs:
        """The outputs of a function."""
        function = self._functions.get(name)
        if function is None:
            refute(f"calls {name}, which is not there")
        if self._depth >= _MAX_DEPTH:
            refute("functions that call each other too deep")
        parameters = [parameter.name for parameter in function.signature.input_arg]
        if len(parameters) != len(args):
            refute("a function with lists of arguments")

        nodes = _by_name(function.node_def)
        feeds = dict(zip(parameters, args, strict=True))
        scope = _Scope(self, nodes, feeds)
        results = {}
        for result in function.signature.output_arg:
            results[result.name] = function.ret[result.name]

        self._depth += 1
        try:
            references = (*results.values(), *function.control_ret.values())
            for reference in references:
                node_name = _node_name(reference)
                if node_name not in scope.feeds:
                    scope.evaluate(node_name)
        finally:
            self._depth -= 1

        outputs = {}
        for result_name, reference in results.items():
            outputs[result_name] = [scope.value(reference)]
        return outputs

    def apply(self, node: Node, args: Values) -> Outputs:
        """The outputs of one operation."""
        if node.op in _CALLS:
            function_name = node.attr("f").func.name
            returned = self.call(function_name, args)
            return {"output": _flat(returned)}
        if node.op in self._functions:
            return self.call(node.op, args)

        rule = self._rules.get(node.op)
        if rule is None:
            refute(f"{node.op} is not known to treat rows one by one")
        for arg in args:
            if isinstance(arg, Mixed):
                refute(arg.reason)

        try:
            outputs = rule(node, args)
        except NotRowWise as error:
            raise NotRowWise(f"{node.op} {node.name}: {error}") from None
        except (IndexError, ValueError, TypeError) as error:
            raise NotRowWise(f"{node.op} {node.name} is not understood: {error}") from error

        if isinstance(outputs, Mapping):
            return outputs
        if isinstance(outputs, Sequence):
            return {"": outputs}
        return {"": [outputs]}


class _Scope:
    """The nodes of the main graph or of one function, with the outputs known so far."""

    def __init__(
        self,
        walk: GraphWalk,
        nodes: Mapping[str, Any],
        feeds: Mapping[str, Value],
        *,
        is_main: bool = False,
    ) -> None:
        self._walk = walk
        self._is_main = is_main
        self._nodes = nodes
        self._outputs: dict[str, Outputs] = {}
        self.feeds = feeds

    def evaluate(self, name: str) -> None:
        """Applies the rules of a node and of all it depends on. Graphs are too deep for
        recursion."""
        stack = [name]
        started: set[str] = set()
        while stack:
            current = stack[-1]
            if current in self._outputs:
                stack.pop()
                continue

            missing = []
            for other in self._dependencies(current):
                if other not in self._outputs:
                    missing.append(other)
            if not missing:
                self._apply(current)
                stack.pop()
                continue
            if current in started:
                refute("a loop")
            started.add(current)
            stack.extend(missing)

    def value(self, reference: str) -> Value:
        """The value of a tensor: "node", "node:1", or "node:output:1" within a function."""
        if reference in self.feeds:
            return self.feeds[reference]
        name, _, rest = reference.partition(":")
        output_name, _, index = rest.rpartition(":")
        outputs = self._outputs[name]
        if output_name and output_name in outputs:
            values = outputs[output_name]
        else:
            values = _flat(outputs)
        if not index:
            return values[0]
        return values[int(index)]

    def _dependencies(self, name: str) -> list[str]:
        node_def = self._nodes.get(name)
        if node_def is None:
            refute(f"{name} is not in the graph")
        names = []
        for reference in node_def.input:
            if reference.startswith("^"):
                # The node only has to have run before.
                node_name = reference[1:]
                feed_name = node_name
            else:
                node_name = _node_name(reference)
                feed_name = self._feed_name(reference)
            if feed_name not in self.feeds:
                names.append(node_name)
        return names

    def _apply(self, name: str) -> None:
        node_def = self._nodes[name]
        args = []
        for reference in node_def.input:
            if reference.startswith("^"):
                continue
            feed_name = self._feed_name(reference)
            args.append(self.value(feed_name))
        node = Node(node_def)
        self._outputs[name] = self._walk.apply(node, args)

    def _feed_name(self, reference: str) -> str:
        """The key of ``feeds``: in the main graph a tensor without a number is the first output."""
        if not self._is_main:
            return reference
        return _canonical(reference)


def _by_name(nodes: Iterable[Any]) -> dict[str, Any]:
    return {node.name: node for node in nodes}


def _canonical(name: str) -> str:
    if ":" in name:
        return name
    return f"{name}:0"


def _node_name(reference: str) -> str:
    name, _, _ = reference.partition(":")
    return name


def _flat(outputs: Outputs) -> list[Value]:
    values: list[Value] = []
    for part in outputs.values():
        values.extend(part)
    return values
