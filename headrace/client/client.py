"""Client: predictions from a model server, numpy in and numpy out."""

from __future__ import annotations

from types import TracebackType
from typing import Any, TypeVar

from headrace.client.address import Address
from headrace.client.core import (
    DEFAULT_TIMEOUT_S,
    Core,
    Flow,
    Result,
    VersionStatus,
    drive,
    model_spec,
)
from headrace.client.deadline import Deadline, checked_timeout_s
from headrace.protocol.signatures import Signature

T = TypeVar("T")


class Client:
    """``Client("http://127.0.0.1:8000")``, or grpc://host:port; https:// and grpcs:// for TLS.

    One client serves any number of threads: it keeps one pool of connections (REST) or one channel
    (gRPC). ``timeout_s`` limits each call, all its requests together. Errors are those of
    ``headrace.protocol.errors``.
    """

    def __init__(self, url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.address = Address.parse(url)
        self.timeout_s = checked_timeout_s(timeout_s)
        codec, self._transport = _codec_and_transport(self.address)
        self._core = Core(codec)
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
        """The model's outputs: an array if there is one, else a dict of arrays by name.

        ``inputs`` is an array (or nested lists) for a signature with one input, else a dict by
        input name. Values are cast to the input's dtype if no information is lost. Strings come
        back as arrays of bytes.
        """
        flow = self._core.predict(model_spec(model, version, label), inputs, signature)
        return self._run(flow, timeout_s)

    def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Signature]:
        """The signatures of a version by name, with their inputs and outputs."""
        return self._run(self._core.metadata(model_spec(model, version, label)), timeout_s)

    def status(
        self, model: str, *, version: int | None = None, timeout_s: float | None = None
    ) -> list[VersionStatus]:
        """Every version the server knows of, the newest first."""
        return self._run(self._core.status(model_spec(model, version)), timeout_s)

    def models(self, *, timeout_s: float | None = None) -> list[dict[str, Any]]:
        """The models a gateway or ``headrace serve`` has.

        Unimplemented over gRPC and at TensorFlow Serving, which cannot list its models.
        """
        return self._run(self._core.models(), timeout_s)

    def ready(self, model: str | None = None, *, timeout_s: float | None = None) -> bool:
        """Whether a model (any server), or the whole stack (the gateway over http), can answer now.

        False also when nothing answers at the address.
        """
        return self._run(self._core.ready(model), timeout_s)

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

    def _run(self, flow: Flow[T], timeout_s: float | None) -> T:
        if self._is_closed:
            raise RuntimeError(f"{self!r} is closed")
        limit_s = self.timeout_s if timeout_s is None else checked_timeout_s(timeout_s)
        return drive(flow, self._transport.send, Deadline(limit_s, self.address))


def _codec_and_transport(address: Address) -> tuple[Any, Any]:
    """Imports only the library of the address's protocol."""
    if address.is_grpc:
        from headrace.client.grpc import GrpcCodec, GrpcTransport

        return GrpcCodec(), GrpcTransport(address)
    from headrace.client.rest import RestCodec, RestTransport

    return RestCodec(), RestTransport(address)
