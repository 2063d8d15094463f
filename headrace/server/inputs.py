"""The tensors of a PredictRequest as a signature wants them: names, defaults, parsing; TF Serving's
words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from headrace.protocol import tensors
from headrace.protocol.errors import InvalidArgument
from headrace.protocol.signatures import Signature


def read(signature: Signature, sent: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The request's tensors, with the signature's defaults where it left some out."""
    _check_count(signature, sent)
    arrays = {}
    for alias, spec in signature.inputs.items():
        if alias not in sent and alias not in signature.defaults:
            raise InvalidArgument(
                f"Signature input alias: {alias}(feed name: {spec.tensor_name}) not found in "
                "request and no default "
                f"value provided. Inputs expected to be in the request {{{_listed(sent)}}}, or "
                "default input alias "
                f"set: {_listed(signature.defaults)}"
            )
        proto = sent[alias] if alias in sent else signature.defaults[alias]
        if proto.tensor_shape.unknown_rank:
            proto.tensor_shape.unknown_rank = (
                # With no dimensions, that is a scalar to TF Serving.
                False
            )
        try:
            arrays[alias] = tensors.from_proto(proto)
        except InvalidArgument as error:
            raise InvalidArgument(f"tensor parsing error: {alias}") from error
    used = sent.keys() & arrays.keys()
    if len(used) != len(sent):
        raise InvalidArgument(
            f"Inputs contains invalid name. Used request inputs: {_listed(used)}, request input: "
            f"{_listed(sent)}"
        )
    return arrays


def _check_count(signature: Signature, sent: Mapping[str, Any]) -> None:
    """Fewer may be sent where there is any default; whether it is the right one shows later."""
    wanted = signature.inputs.keys()
    if len(sent) == len(wanted) or (len(sent) < len(wanted) and signature.defaults):
        return
    extra, missing = sent.keys() - wanted, wanted - sent.keys()
    raise InvalidArgument(
        f"input size does not match signature: {len(sent)}!={len(wanted)} "
        f"len({{{_listed(sent)}}}) != "
        f"len({{{_listed(wanted)}}}). Sent extra: {{{_listed(extra)}}}. Missing but required: "
        f"{{{_listed(missing)}}}."
    )


def _listed(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
