"""What only a client meets: nobody answers, or somebody who speaks the other protocol."""

from __future__ import annotations

from headrace.protocol.errors import InvalidArgument, Unavailable


class Unreachable(Unavailable):
    """No server answered at the address."""


class WrongProtocol(InvalidArgument):
    """There is a gRPC server at an http:// address, or an HTTP server at a grpc:// one."""
