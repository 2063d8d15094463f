"""Requests out of their bytes.

Not by gRPC itself: a request_deserializer that raises inside grpcio leaves 16 KB in the process for
ever. So the handlers take the bytes as they came, and refuse here with the code and text that
grpcio would have had.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError

from headrace.protocol.errors import Internal


def parse(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise Internal("Exception deserializing request!") from error


def parse_or_abort(kind: Any, data: bytes, context: grpc.ServicerContext) -> Any:
    """For handlers that know nothing of our errors."""
    try:
        return parse(kind, data)
    except Internal as error:
        context.abort(grpc.StatusCode.INTERNAL, error.message)
