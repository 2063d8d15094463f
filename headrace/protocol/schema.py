"""The table of facts read into protobuf's file descriptors, one file a package.

Knows the notation of tensorflow and serving; knows nothing of message classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf import any_pb2, descriptor_pb2, wrappers_pb2

from headrace.protocol.proto import grpc, serving, tensorflow

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "fixed32": _Field.TYPE_FIXED32,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}
_MAP = re.compile(r"map<(\w+), ([\w.]+)>")
_PACKAGES = (
    *("tensorflow.error", "tensorflow", "tensorflow.serving"),
    *("grpc.health.v1", "grpc.reflection.v1", "grpc.reflection.v1alpha"),
)
_LINE = re.compile(r"(\w+) (\d+) (map<[^>]*>|[\w.]+)([*?]?)(?: @(\w+))?(?: json=(\w+))?")


@dataclass(frozen=True, slots=True)
class FieldFact:
    """One line of the table. ``mark`` is "*" for repeated, "?" for optional with presence, else
    empty."""

    name: str
    number: int
    type: str
    mark: str = ""
    oneof: str = ""
    json_name: str = ""


def messages() -> dict[str, tuple[FieldFact, ...]]:
    """Every message of the table by its full name."""
    return {
        **_read("tensorflow", tensorflow.MESSAGES),
        **_read("tensorflow", grpc.PROFILER),
        **_read("tensorflow.serving", serving.MESSAGES),
        **_read("grpc.health.v1", grpc.HEALTH),
        **_read("grpc.reflection.v1", grpc.REFLECTION),
        **_read("grpc.reflection.v1alpha", grpc.REFLECTION),
    }


def services() -> dict[str, list[tuple[str, str, str]]]:
    """Every service by its full name: name, request and answer of its calls, streams marked with
    >."""
    table: dict[str, list[tuple[str, str, str]]] = {}
    calls: list[tuple[str, str, str]] = []
    for line in filter(None, grpc.SERVICES.splitlines()):
        if line.startswith(" "):
            name, request, response = line.split()
            calls.append((name, request, response))
        else:
            calls = table[line] = []
    return table


def enums() -> dict[str, dict[str, int]]:
    return {**tensorflow.ENUMS, **serving.ENUMS, **grpc.ENUMS}


def files() -> Iterator[bytes]:
    """Serialized file descriptors, each after those it needs."""
    yield any_pb2.DESCRIPTOR.serialized_pb
    yield wrappers_pb2.DESCRIPTOR.serialized_pb
    needed = ["google/protobuf/any.proto", "google/protobuf/wrappers.proto"]
    facts, enum_facts = messages(), enums()
    kinds = {name: _Field.TYPE_MESSAGE for name in facts} | {
        name: _Field.TYPE_ENUM for name in enum_facts
    }
    for package in _PACKAGES:
        file = descriptor_pb2.FileDescriptorProto(
            name=f"headrace/{package.replace('.', '/')}.proto", package=package, syntax="proto3"
        )
        if package.startswith("tensorflow"):
            file.dependency.extend(needed)
        _fill(file, package, facts, enum_facts, kinds)
        _add_services(file, package)
        if package.startswith("tensorflow"):
            needed.append(file.name)
        yield file.SerializeToString()


def _read(package: str, text: str) -> dict[str, tuple[FieldFact, ...]]:
    table: dict[str, list[FieldFact]] = {}
    name = ""
    for line in filter(None, text.splitlines()):
        if not line.startswith(" "):
            name = f"{package}.{line}"
            table[name] = []
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError(f"{name}: not a field: {line.strip()!r}")
        field, number, type_, mark, oneof, json_name = match.groups(default="")
        table[name].append(FieldFact(field, int(number), type_, mark, oneof, json_name))
    return {name: tuple(fields) for name, fields in table.items()}


def _fill(
    file: descriptor_pb2.FileDescriptorProto,
    package: str,
    facts: dict[str, tuple[FieldFact, ...]],
    enum_facts: dict[str, dict[str, int]],
    kinds: dict[str, int],
) -> None:
    """Hang every message and enum of ``package`` into the file, nested ones into their parents."""
    placed: dict[str, descriptor_pb2.DescriptorProto] = {}
    # Shorter names first: a parent is there before what is nested in it.
    for name in sorted((n for n in facts if _package_of(n) == package), key=lambda n: n.count(".")):
        parent, _, short = name.rpartition(".")
        placed[name] = (file.message_type if parent == package else placed[parent].nested_type).add(
            name=short
        )
        for fact in facts[name]:
            _add_field(placed[name], name, fact, package=package, kinds=kinds)
    for name, values in enum_facts.items():
        if _package_of(name) != package:
            continue
        parent, _, short = name.rpartition(".")
        enum = (file.enum_type if parent == package else placed[parent].enum_type).add(name=short)
        for value, number in values.items():
            enum.value.add(name=value, number=number)


def _add_services(file: descriptor_pb2.FileDescriptorProto, package: str) -> None:
    for full_name, calls in services().items():
        if _package_of(full_name) != package:
            continue
        service = file.service.add(name=full_name.removeprefix(f"{package}."))
        for name, request, response in calls:
            service.method.add(
                name=name,
                input_type=f".{package}.{request.removeprefix('>')}",
                output_type=f".{package}.{response.removeprefix('>')}",
                client_streaming=request.startswith(">"),
                server_streaming=response.startswith(">"),
            )


def _package_of(name: str) -> str:
    """Packages are lower-case, messages are not."""
    return ".".join(part for part in name.split(".") if part[0].islower())


def _add_field(
    message: descriptor_pb2.DescriptorProto,
    full_name: str,
    fact: FieldFact,
    *,
    package: str,
    kinds: dict[str, int],
) -> None:
    field = message.field.add(name=fact.name, number=fact.number, label=_Field.LABEL_OPTIONAL)
    entry = _MAP.fullmatch(fact.type)
    if entry is not None:
        _add_map_entry(message, full_name, field, *entry.groups(), package=package, kinds=kinds)
        return
    _set_type(field, fact.type, package=package, kinds=kinds)
    if fact.json_name:
        field.json_name = fact.json_name
    if fact.mark == "*":
        field.label = _Field.LABEL_REPEATED
    elif fact.mark == "?":
        # proto3 keeps the presence of an optional field in a oneof of its own, after the real ones.
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{fact.name}")
    elif fact.oneof:
        names = [oneof.name for oneof in message.oneof_decl]
        if fact.oneof not in names:
            message.oneof_decl.add(name=fact.oneof)
            names.append(fact.oneof)
        field.oneof_index = names.index(fact.oneof)


def _add_map_entry(
    message: descriptor_pb2.DescriptorProto,
    full_name: str,
    field: descriptor_pb2.FieldDescriptorProto,
    key: str,
    value: str,
    *,
    package: str,
    kinds: dict[str, int],
) -> None:
    name = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
    entry = message.nested_type.add(name=name)
    entry.options.map_entry = True
    for number, (part, type_) in enumerate((("key", key), ("value", value)), start=1):
        inner = entry.field.add(name=part, number=number, label=_Field.LABEL_OPTIONAL)
        _set_type(inner, type_, package=package, kinds=kinds)
    field.label = _Field.LABEL_REPEATED
    field.type = _Field.TYPE_MESSAGE
    field.type_name = f".{full_name}.{name}"


def _set_type(
    field: descriptor_pb2.FieldDescriptorProto, type_: str, *, package: str, kinds: dict[str, int]
) -> None:
    if type_ in _SCALARS:
        field.type = _SCALARS[type_]
        return
    if type_.startswith("google."):
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{type_}"
        return
    for scope in (package, "tensorflow"):
        if (full_name := f"{scope}.{type_}") in kinds:
            field.type, field.type_name = kinds[full_name], f".{full_name}"
            return
    raise ValueError(f"field {field.name}: unknown type {type_!r}")
