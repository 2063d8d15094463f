"""Addresses: which urls are accepted, and how the error says to correct the others."""

from __future__ import annotations

import pytest

from headrace.client.address import Address, default_url
from headrace.protocol.errors import InvalidArgument


@pytest.mark.parametrize(
    ("url", "shown", "is_grpc", "is_encrypted"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", False, False),
        ("http://models.example/", "http://models.example:80", False, False),
        ("https://models.example/team/a/", "https://models.example:443/team/a", False, True),
        ("http://[::1]:8000", "http://[::1]:8000", False, False),
        ("grpc://localhost:8001", "grpc://localhost:8001", True, False),
        ("grpcs://models.example:443/", "grpcs://models.example:443", True, True),
        ("HTTP://Localhost:8000", "http://localhost:8000", False, False),
    ],
)
def test_a_valid_url_is_parsed(url: str, shown: str, is_grpc: bool, is_encrypted: bool) -> None:
    parsed = Address.parse(url)
    assert (str(parsed), parsed.is_grpc, parsed.is_encrypted) == (shown, is_grpc, is_encrypted)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "127.0.0.1:8000",
            r"no scheme; write http://127\.0\.0\.1:8000 or grpc://127\.0\.0\.1:8000",
        ),
        ("", "no scheme"),
        ("ftp://host:1", "scheme 'ftp' is not one of http, https, grpc, grpcs"),
        ("http://:8000", "names no host"),
        ("http://host:99999", "cannot be read: Port out of range"),
        ("http://host:port", "cannot be read: Port could not be cast"),
        ("http://[::1:8000", "cannot be read: Invalid IPv6 URL"),
        ("http://me:secret@host:1", "user name or password"),
        ("grpc://host", "no port; Headrace's gateway has gRPC on 8001"),
        ("grpc://host:1/path", "a gRPC address has no path; write grpc://host:1$"),
        ("http://host:1/?a=1", "give the server's address alone: http://host:1$"),
        (
            "http://host:1/v1/models/m:predict",
            "names a model; give the server's address alone: http://host:1$",
        ),
    ],
)
def test_an_invalid_url_is_refused_with_its_correction(url: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        Address.parse(url)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "is_loopback"),
    [
        ("http://127.0.0.2:1", True),
        ("http://[::1]:1", True),
        ("grpc://localhost:1", True),
        ("http://10.0.0.1:1", False),
        ("http://models.example", False),
    ],
)
def test_loopback_addresses_are_recognised(url: str, is_loopback: bool) -> None:
    assert Address.parse(url).is_loopback is is_loopback


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"HEADRACE_URL": "", "HEADRACE_HTTP_PORT": ""}, "http://127.0.0.1:8000"),
        ({"HEADRACE_HTTP_PORT": "9000"}, "http://127.0.0.1:9000"),
        ({"HEADRACE_URL": "grpc://host:1", "HEADRACE_HTTP_PORT": "9000"}, "grpc://host:1"),
    ],
)
def test_the_default_url_comes_from_the_environment(environ: dict[str, str], url: str) -> None:
    assert default_url(environ) == url


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1"])
def test_an_invalid_port_of_the_environment_is_reported_with_its_variable(port: str) -> None:
    with pytest.raises(
        InvalidArgument, match=f"HEADRACE_HTTP_PORT={port}: expected a port from 1 to 65535"
    ):
        default_url({"HEADRACE_HTTP_PORT": port})
