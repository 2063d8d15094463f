"""The address of a serving backend's REST port."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from headrace.protocol.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Address:
    """A host and port, or the path of a Unix socket."""

    host: str
    port: int
    # Of the Unix socket; empty when there is none.
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """http://HOST:PORT, unix:/PATH or http+unix://PATH, its slashes percent-encoded or not."""
        for scheme in ("http+unix://", "unix://", "unix:"):
            if text.startswith(scheme):
                path = unquote(text.removeprefix(scheme))
                if not path.startswith("/"):
                    raise InvalidArgument(
                        f"{text}: a Unix socket is named by its whole path, unix:/run/serving.sock"
                    )
                return cls("localhost", 0, path)
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidArgument(f"{text}: {error}") from error
        has_more = parts.path.strip("/") or parts.query or parts.fragment or parts.username
        if parts.scheme != "http" or not host or port == 0 or has_more:
            raise InvalidArgument(
                f"{text}: expected like http://127.0.0.1:8501 or unix:/run/serving.sock"
            )
        return cls(host, port or 80)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"http://{self.authority}"

    @property
    def authority(self) -> str:
        """What the Host header says."""
        if self.path:
            return self.host
        if ":" in self.host:
            return f"[{self.host}]:{self.port}"
        return f"{self.host}:{self.port}"
