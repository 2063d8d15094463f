"""Client: predictions from a model server, numpy in and numpy out."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from headrace.client import address as addresses
from headrace.client.address import Address
from headrace.client.core import (
    DEFAULT_TIMEOUT_S,
    Core,
    Flow,
    Result,
    VersionStatus,
    drive,
    model_spec,
    signature_or_default,
)
from headrace.client.deadline import Deadline, checked_timeout_s
from headrace.protocol.signatures import Signature


class Client:
    """``Client("http://127.0.0.1:8000")``, or grpc://host:port; https:// and grpcs:// over TLS.

    One client serves any number of threads: it keeps one pool of connections (REST) or one channel
    (gRPC). Every call ends within ``timeout_s``, all its requests together. Errors are those of
    ``headrace.protocol.errors``.
    """

    def __init__(self, url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.address = addresses.parse(url)
        self.timeout_s = checked_timeout_s(timeout_s)
        wire, self._transport = _connected(self.address)
        self._core = Core(wire)
        self._is_closed = False

    def predict(
        self,
        model: str,
        inputs: Any,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str | None = None,
        timeout_s: float | None = None,
    ) -> Result:
        """The model's outputs: an array where there is one, else a dict of arrays by name.

        ``inputs`` is an array (or nested lists) for a signature with one input, else a dict by
        input name. Values are cast to the input's dtype where that loses no meaning. Strings come
        back as arrays of bytes.
        """
        flow = self._core.predict(
            model_spec(model, version, label), inputs, signature_or_default(signature)
        )
        found: Result = self._run(flow, timeout_s)
        return found

    def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Signature]:
        """The signatures of a version by name: what goes in, what comes out."""
        found: dict[str, Signature] = self._run(
            self._core.metadata(model_spec(model, version, label)), timeout_s
        )
        return found

    def status(
        self, model: str, *, version: int | None = None, timeout_s: float | None = None
    ) -> list[VersionStatus]:
        """Every version the server knows of, the newest first."""
        found: list[VersionStatus] = self._run(
            self._core.status(model_spec(model, version)), timeout_s
        )
        return found

    def models(self, *, timeout_s: float | None = None) -> list[dict[str, Any]]:
        """The models the gateway serves. Unimplemented over gRPC and at a TensorFlow Serving, which
        keep no list."""
        found: list[dict[str, Any]] = self._run(self._core.models(), timeout_s)
        return found

    def ready(self, model: str | None = None, *, timeout_s: float | None = None) -> bool:
        """Whether a model (any server), or the whole stack (the gateway over http), can answer now.

        False also when nothing answers at the address.
        """
        return bool(self._run(self._core.ready(model), timeout_s))

    def close(self) -> None:
        self._is_closed = True
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({str(self.address)!r})"

    def _run(self, flow: Flow, timeout_s: float | None) -> Any:
        if self._is_closed:
            raise RuntimeError(f"{self!r} is closed")
        limit_s = self.timeout_s if timeout_s is None else checked_timeout_s(timeout_s)
        return drive(flow, self._transport.send, Deadline(limit_s, self.address))


def _connected(address: Address) -> tuple[Any, Any]:
    """The wire and the transport of an address; the library of the other protocol is never
    imported."""
    if address.is_grpc:
        from headrace.client.grpc import GrpcTransport, GrpcWire

        return GrpcWire(), GrpcTransport(address)
    from headrace.client.rest import RestTransport, RestWire

    return RestWire(), RestTransport(address)
