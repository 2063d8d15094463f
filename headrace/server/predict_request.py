"""The tensors of a PredictRequest, checked against the signature's names and defaults, in TF
Serving's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from headrace.protocol import tensors
from headrace.protocol.errors import InvalidArgument
from headrace.protocol.signatures import Signature
from headrace.server.engines import Arrays


def read(signature: Signature, protos: Mapping[str, Any]) -> Arrays:
    """The request's tensors by alias, with the signature's defaults for those it left out."""
    _check_count(signature, protos)
    defaults = signature.defaults
    arrays = {}
    for alias, spec in signature.inputs.items():
        if alias not in protos and alias not in defaults:
            raise InvalidArgument(
                f"Signature input alias: {alias}(feed name: {spec.tensor_name}) not found in "
                "request and no default value provided. Inputs expected to be in the request "
                f"{{{_joined(protos)}}}, or default input alias set: {_joined(defaults)}"
            )
        proto = protos[alias] if alias in protos else defaults[alias]
        if proto.tensor_shape.unknown_rank:
            # TF Serving takes it for a scalar, as there are no dimensions.
            proto.tensor_shape.unknown_rank = False
        try:
            arrays[alias] = tensors.from_proto(proto)
        except InvalidArgument as error:
            raise InvalidArgument(f"tensor parsing error: {alias}") from error
    used = protos.keys() & arrays.keys()
    if len(used) != len(protos):
        raise InvalidArgument(
            f"Inputs contains invalid name. Used request inputs: {_joined(used)}, request input: "
            f"{_joined(protos)}"
        )
    return arrays


def _check_count(signature: Signature, protos: Mapping[str, Any]) -> None:
    """A request may have fewer inputs if there are defaults; whether these are the right ones is
    checked later."""
    names = signature.inputs.keys()
    if len(protos) == len(names) or (len(protos) < len(names) and signature.defaults):
        return
    extra = protos.keys() - names
    missing = names - protos.keys()
    raise InvalidArgument(
        f"input size does not match signature: {len(protos)}!={len(names)} "
        f"len({{{_joined(protos)}}}) != len({{{_joined(names)}}}). Sent extra: "
        f"{{{_joined(extra)}}}. Missing but required: {{{_joined(missing)}}}."
    )


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
