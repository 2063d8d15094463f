"""Raising the error of a fault."""

from __future__ import annotations

from typing import Any, NoReturn

from headrace.protocol import faults
from headrace.protocol.errors import InvalidArgument, Unimplemented
from headrace.protocol.faults import Fault, JsonPath


def refuse(
    kind: str,
    place: JsonPath = (),
    /,
    expected: str = "",
    got: str = "",
    *,
    offset: int | None = None,
    **facts: Any,
) -> NoReturn:
    """Raises the error of a fault at this place of the request; see Fault."""
    refuse_fault(Fault(kind, place, expected, got, offset, facts))


def refuse_fault(fault: Fault) -> NoReturn:
    # Inside a row TensorFlow Serving wraps every fault as an invalid argument.
    is_unimplemented = fault.kind == "dtype_unsupported" and "row" not in fault.facts
    text = faults.our_text(fault)
    if is_unimplemented:
        raise Unimplemented(text, fault=fault)
    raise InvalidArgument(text, fault=fault)
