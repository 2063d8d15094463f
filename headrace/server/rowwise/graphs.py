"""Walks a graph from inputs to a signature's outputs, functions included, and asks the rules about
each operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from headrace.server.rowwise.values import Mixed, NotRowWise, Value, refuse

# By the name of the output, in their order.
Outputs = Mapping[str, Sequence[Value]]
Rule = Callable[["Node", Sequence[Value]], Value | Sequence[Value] | Outputs]

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_DEEPEST = 50


class Node:
    """A NodeDef and its attributes, with the default where an export left one out."""

    __slots__ = ("_definition", "name", "op")

    def __init__(self, definition: Any) -> None:
        self._definition = definition
        self.name: str = definition.name
        self.op: str = definition.op

    def attr(self, name: str) -> Any:
        """An AttrValue, or None."""
        return self._definition.attr[name] if name in self._definition.attr else None

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(found.b) if (found := self.attr(name)) is not None else default

    def number(self, name: str, default: int = 0) -> int:
        return int(found.i) if (found := self.attr(name)) is not None else default

    def text(self, name: str, default: str = "") -> str:
        return str(found.s.decode()) if (found := self.attr(name)) is not None else default

    def numbers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        return (
            [int(i) for i in found.list.i]
            if (found := self.attr(name)) is not None
            else list(default)
        )


class Walk:
    """``rules`` are by operation; one that has none may do anything, and is refused."""

    def __init__(self, graph_def: Any, rules: Mapping[str, Rule]) -> None:
        self._functions = {
            function.signature.name: function for function in graph_def.library.function
        }
        self._main = {node.name: node for node in graph_def.node}
        self._rules = rules
        self._depth = 0

    def outputs(self, tensor_names: Iterable[str], fed: Mapping[str, Value]) -> list[Value]:
        """The values of tensors like "x:0" of the main graph, where those of ``fed`` are given."""
        wanted = [_canonical(name) for name in tensor_names]
        feeds = {_canonical(name): value for name, value in fed.items()}
        scope = _Scope(self, self._main, feeds, is_main=True)
        scope.run(name.partition(":")[0] for name in wanted if name not in feeds)
        return [scope.value(name) for name in wanted]

    def call(self, name: str, args: Sequence[Value]) -> Outputs:
        function = self._functions.get(name)
        if function is None:
            refuse(f"calls {name}, which is not there")
        if self._depth >= _DEEPEST:
            refuse("functions that call each other too deep")
        declared = [arg.name for arg in function.signature.input_arg]
        if len(declared) != len(args):
            refuse("a function with lists of arguments")
        self._depth += 1
        try:
            scope = _Scope(
                self, {n.name: n for n in function.node_def}, dict(zip(declared, args, strict=True))
            )
            returned = {arg.name: function.ret[arg.name] for arg in function.signature.output_arg}
            ends = [*returned.values(), *function.control_ret.values()]
            scope.run(
                end.partition(":")[0] for end in ends if end.partition(":")[0] not in scope.fed
            )
            return {name: [scope.value(end)] for name, end in returned.items()}
        finally:
            self._depth -= 1

    def node(self, node: Node, args: Sequence[Value]) -> Outputs:
        called = node.attr("f").func.name if node.op in _CALLS else node.op
        if node.op in _CALLS or called in self._functions:
            returned = self.call(called, args)
            return (
                returned
                if called == node.op
                else {"output": [v for part in returned.values() for v in part]}
            )
        rule = self._rules.get(node.op)
        if rule is None:
            refuse(f"{node.op} is not known to treat rows one by one")
        for arg in args:
            if isinstance(arg, Mixed):
                refuse(arg.why)
        try:
            found = rule(node, args)
        except NotRowWise as why:
            raise NotRowWise(f"{node.op} {node.name}: {why}") from None
        except (IndexError, ValueError, TypeError) as error:
            raise NotRowWise(f"{node.op} {node.name} is not understood: {error}") from error
        if isinstance(found, Mapping):
            return found
        return {"": found if isinstance(found, Sequence) else [found]}


class _Scope:
    """One body of nodes with what is known of each so far."""

    def __init__(
        self,
        walk: Walk,
        nodes: Mapping[str, Any],
        fed: Mapping[str, Value],
        *,
        is_main: bool = False,
    ) -> None:
        self._walk = walk
        self._is_main = is_main
        self._nodes = nodes
        self._found: dict[str, Outputs] = {}
        self.fed = fed

    def run(self, names: Iterable[str]) -> None:
        """Looks at these nodes and all they depend on, without recursion: graphs are deep."""
        for name in names:
            stack, open_ = [name], set()
            while stack:
                at = stack[-1]
                if at in self._found:
                    stack.pop()
                    continue
                missing = [need for need in self._needs(at) if need not in self._found]
                if missing:
                    if at in open_:
                        refuse("a loop")
                    open_.add(at)
                    stack.extend(missing)
                    continue
                self._look(at)
                stack.pop()

    def value(self, reference: str) -> Value:
        if reference in self.fed:
            return self.fed[reference]
        name, _, rest = reference.partition(":")
        output, _, index = rest.rpartition(":")
        found = self._found[name]
        if output in found and output:
            return found[output][int(index)]
        flat = [value for part in found.values() for value in part]
        return flat[int(index or 0)]

    def _needs(self, name: str) -> list[str]:
        node = self._nodes.get(name)
        if node is None:
            refuse(f"{name} is not in the graph")
        found = []
        for reference in node.input:
            if reference.startswith("^"):
                if reference[1:] not in self.fed:
                    found.append(reference[1:])
            elif self._spelt(reference) not in self.fed:
                found.append(reference.partition(":")[0])
        return found

    def _look(self, name: str) -> None:
        definition = self._nodes[name]
        args = [
            self.value(self._spelt(reference))
            for reference in definition.input
            if not reference.startswith("^")
        ]
        self._found[name] = self._walk.node(Node(definition), args)

    def _spelt(self, reference: str) -> str:
        """As the keys of ``fed`` are: in the main graph an output without a number is the first."""
        return _canonical(reference) if self._is_main else reference


def _canonical(name: str) -> str:
    return name if ":" in name else f"{name}:0"
