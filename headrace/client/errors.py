"""Errors that only a client meets, and the details a server adds to its own."""

from __future__ import annotations

from typing import Any

from headrace.protocol.errors import InvalidArgument, Unavailable, Unknown


class Unreachable(Unavailable):
    """No server answered at the address."""


class WrongProtocol(InvalidArgument):
    """There is a gRPC server at an http:// address, or an HTTP server at a grpc:// one."""


class UnexpectedResponse(Unknown):
    """A response that does not fit the signature, or is not one of a model server."""


def checked_details(details: Any) -> list[dict[str, Any]]:
    """The details of a gateway's error, from JSON; none if another server sent something else."""
    if not isinstance(details, list):
        return []
    return [detail for detail in details if isinstance(detail, dict)]
