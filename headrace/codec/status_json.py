"""The bodies of TensorFlow Serving's status and metadata answers, as protobuf's JSON printer lays
them out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from google.protobuf import json_format

from headrace.protocol.tensors import dtype_word


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class VersionRow(Protocol):
    """One version as it stands; ``state`` is an enum, ``error_name`` is "OK" or a status name."""

    @property
    def version(self) -> int: ...
    @property
    def state(self) -> _Named: ...
    @property
    def error_name(self) -> str: ...
    @property
    def error_message(self) -> str: ...


def status(rows: Iterable[VersionRow]) -> bytes:
    """The rows in the order given; TensorFlow Serving has the newest version first."""
    versions = [
        {
            "version": str(row.version),
            "state": row.state.name,
            "status": {"error_code": row.error_name, "error_message": row.error_message},
        }
        for row in rows
    ]
    return _printed({"model_version_status": versions}) + b"\n"


def metadata(model: str, version: int, signatures: Mapping[str, Any]) -> bytes:
    """``signatures`` are SignatureDef messages by name."""
    spec = {"name": model, "version": str(version), "signature_name": ""}
    found = {
        "signature_def": {name: _signature(message) for name, message in sorted(signatures.items())}
    }
    return b'{\n"model_spec":%b\n,\n"metadata": {"signature_def": %b\n}\n}\n' % (
        _printed(spec),
        _printed(found),
    )


def _signature(message: Any) -> dict[str, Any]:
    return {
        "inputs": {alias: _tensor_info(info) for alias, info in sorted(message.inputs.items())},
        "outputs": {alias: _tensor_info(info) for alias, info in sorted(message.outputs.items())},
        "method_name": message.method_name,
        "defaults": {alias: _default(value) for alias, value in sorted(message.defaults.items())},
    }


def _tensor_info(info: Any) -> dict[str, Any]:
    word = dtype_word(info.dtype)
    shape = info.tensor_shape
    return {
        "name": info.name,
        "dtype": int(word) if word.isdigit() else word,
        "tensor_shape": {
            "dim": [{"size": str(dim.size), "name": dim.name} for dim in shape.dim],
            "unknown_rank": shape.unknown_rank,
        },
    }


def _default(value: Any) -> Any:
    return json_format.MessageToDict(
        value, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _printed(value: Any) -> bytes:
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match.group()):04x}", text).encode(
        "utf-8", "replace"
    )


# Only strings can hold these; protobuf escapes them too.
_ESCAPED = re.compile("[<>\x7f-\x9f\u2028\u2029]")
