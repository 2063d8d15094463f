"""What the gRPC door proves of itself and asks of its callers: TensorFlow Serving's SSLConfig, PEM
texts in a file."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

import grpc

from headrace.protocol import messages
from headrace.protocol.errors import InvalidArgument
from headrace.server import textfiles


def credentials(path: str) -> grpc.ServerCredentials:
    """TLS; mutual, when client_verify is set. A key that does not belong to the certificate is told
    at the start."""
    config = textfiles.load(messages.SSLConfig, path)
    key, certificate, ca = (
        t.encode() for t in (config.server_key, config.server_cert, config.custom_ca)
    )
    _check(path, key, certificate, ca)
    if config.client_verify and not ca:
        raise InvalidArgument(
            f"{path}: client_verify needs custom_ca, the certificates that callers are verified "
            "with"
        )
    return grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=ca or None, require_client_auth=config.client_verify
    )


def _check(path: str, key: bytes, certificate: bytes, ca: bytes) -> None:
    # gRPC takes anything and fails, silently, every handshake. The ssl module reads keys from files
    # alone.
    with tempfile.TemporaryDirectory() as folder:
        chain, private = Path(folder, "certificate"), Path(folder, "key")
        chain.write_bytes(certificate)
        private.write_bytes(key)
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain, private, password=b"")
            if ca:
                context.load_verify_locations(cadata=ca.decode())
        except (ssl.SSLError, ValueError) as error:
            raise InvalidArgument(
                f"{path}: server_key, server_cert or custom_ca is not usable: {error}"
            ) from error
