"""The tensors of a PredictRequest as a signature wants them: names, defaults, parsing; TF Serving's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.wire import tensors
from headrace.wire.errors import InvalidArgument
from headrace.wire.signatures import Signature


def read(signature: Signature, sent: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The request's tensors, with the signature's defaults where it left some out."""
    _check_names(signature, sent)
    arrays = {}
    for alias in signature.inputs:
        proto = sent[alias] if alias in sent else signature.defaults[alias]
        if proto.tensor_shape.unknown_rank:
            proto.tensor_shape.unknown_rank = False  # with no dimensions, that is a scalar to TF Serving
        try:
            arrays[alias] = tensors.from_proto(proto)
        except InvalidArgument as error:
            raise InvalidArgument(f"tensor parsing error: {alias}") from error
    return arrays


def _check_names(signature: Signature, sent: Mapping[str, Any]) -> None:
    wanted, given, defaults = set(signature.inputs), set(sent), set(signature.defaults)
    extra, missing = given - wanted, wanted - given - defaults
    if len(given) != len(wanted) and (extra or missing):
        raise InvalidArgument(
            f"input size does not match signature: {len(given)}!={len(wanted)} len({_set(given)}) != "
            f"len({_set(wanted)}). Sent extra: {_set(extra)}. Missing but required: {_set(missing)}."
        )
    for alias in sorted(missing):
        raise InvalidArgument(
            f"Signature input alias: {alias}(feed name: {signature.inputs[alias].tensor_name}) not found in request "
            f"and no default value provided. Inputs expected to be in the request {_set(wanted)}, or default input "
            f"alias set: {_set(defaults)}"
        )
    for alias in sorted(extra):
        used = _set(wanted & given)
        raise InvalidArgument(f"Inputs contains invalid name. Used request inputs: {used}, request input: {alias}")


def _set(names: set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
