"""The address of a server: the url a caller gave, checked once; the error says how to correct
it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from headrace.protocol.errors import InvalidArgument

_SCHEMES = ("http", "https", "grpc", "grpcs")
_OTHER_SCHEME = {"http": "grpc", "https": "grpcs", "grpc": "http", "grpcs": "https"}
_HTTP_PORTS = {"http": 80, "https": 443}
_GATEWAY_PORT = "8000"


@dataclass(frozen=True, slots=True)
class Address:
    """``path`` is the prefix a REST server is mounted under, without a slash at the end; empty for
    gRPC."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, url: str) -> Address:
        if "://" not in url:
            raise InvalidArgument(f"url {url!r} has no scheme; write http://{url} or grpc://{url}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidArgument(f"url {url!r} cannot be read: {error}") from error
        if parts.scheme not in _SCHEMES:
            raise InvalidArgument(
                f"url {url!r}: scheme {parts.scheme!r} is not one of {', '.join(_SCHEMES)}"
            )
        if not parts.hostname:
            raise InvalidArgument(
                f"url {url!r} names no host; write {parts.scheme}://127.0.0.1:8000"
            )
        if parts.username is not None or parts.password is not None:
            raise InvalidArgument(
                "the url contains a user name or password; give the address alone"
            )
        if port is None:
            port = _default_port(url, parts)
        return cls(parts.scheme, parts.hostname, port, _prefix(url, parts))

    @property
    def is_grpc(self) -> bool:
        return self.scheme in ("grpc", "grpcs")

    @property
    def is_encrypted(self) -> bool:
        return self.scheme in ("https", "grpcs")

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def host_and_port(self) -> str:
        # An IPv6 address stands in brackets.
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def with_other_protocol(self) -> str:
        """The same host and port with the scheme of the other protocol."""
        return f"{_OTHER_SCHEME[self.scheme]}://{self.host_and_port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_and_port}{self.path}"


def default_url(environ: Mapping[str, str]) -> str:
    """HEADRACE_URL, else the gateway of this machine. Empty variables count as unset."""
    url = environ.get("HEADRACE_URL")
    if url:
        return url
    port = environ.get("HEADRACE_HTTP_PORT") or _GATEWAY_PORT
    if not (port.isdecimal() and 1 <= int(port) <= 65535):
        raise InvalidArgument(f"HEADRACE_HTTP_PORT={port}: expected a port from 1 to 65535")
    return f"http://127.0.0.1:{port}"


def _default_port(url: str, parts: SplitResult) -> int:
    if parts.scheme in _HTTP_PORTS:
        return _HTTP_PORTS[parts.scheme]
    raise InvalidArgument(
        f"url {url!r} has no port; Headrace's gateway has gRPC on 8001, TensorFlow Serving on 8500"
    )


def _prefix(url: str, parts: SplitResult) -> str:
    path = parts.path.rstrip("/")
    bare = f"{parts.scheme}://{parts.netloc}"
    if parts.query or parts.fragment:
        raise InvalidArgument(f"url {url!r}: give the server's address alone: {bare}")
    if "/v1/" in f"{path}/":
        raise InvalidArgument(f"url {url!r} names a model; give the server's address alone: {bare}")
    if path and parts.scheme not in _HTTP_PORTS:
        raise InvalidArgument(f"url {url!r}: a gRPC address has no path; write {bare}")
    return path
