"""One table of names for all parts: it is complete, and no part ends over a name that another one
reads."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from deploy.local.local_settings import LocalSettings
from gateway.settings import Settings
from headrace import variables
from headrace.settings import variable

ROOT = Path(__file__).parents[2]
CODE = [
    path
    for top in ("headrace", "gateway", "trainer", "deploy", "benchmarks")
    for path in (ROOT / top).rglob("*.py")
]
FILES = [
    *CODE,
    *(ROOT / "docs").rglob("*.md"),
    *ROOT.glob("*.yml"),
    *ROOT.rglob("*/Dockerfile"),
    ROOT / "Makefile",
]
OF_KUBERNETES = {
    "HEADRACE_GATEWAY_SERVICE_HOST": "10.43.0.7",
    "HEADRACE_GATEWAY_SERVICE_PORT": "8000",
    "HEADRACE_GATEWAY_SERVICE_PORT_HTTP": "8000",
    "HEADRACE_GATEWAY_PORT": "tcp://10.43.0.7:8000",
    "HEADRACE_GATEWAY_PORT_8000_TCP": "tcp://10.43.0.7:8000",
    "HEADRACE_GATEWAY_PORT_8000_TCP_PROTO": "tcp",
    "HEADRACE_GATEWAY_PORT_8000_TCP_PORT": "8000",
    "HEADRACE_GATEWAY_PORT_8000_TCP_ADDR": "10.43.0.7",
    "HEADRACE_SERVICE_HOST": "10.43.0.8",
    "HEADRACE_PORT": "tcp://10.43.0.8:80",
    "HEADRACE_PORT_80_UDP": "udp://10.43.0.8:80",
    "HEADRACE_HTTP_PORT": "tcp://10.43.0.9:8000",  # of a Service called headrace-http
}


def test_the_gateways_names_are_its_settings() -> None:
    assert {variable(f.name) for f in fields(Settings)} == variables.GATEWAY


def test_the_local_runtimes_names_are_known() -> None:
    assert {variable(f.name) for f in fields(LocalSettings)} <= variables.ALL


def test_every_name_that_stands_anywhere_is_in_the_table() -> None:
    # What ends in _ or is followed by < or { is the beginning of a name.
    names = {
        name
        for path in FILES
        for name in re.findall(r"\bHEADRACE_[A-Z0-9_]*[A-Z0-9]\b(?![<{_])", path.read_text())
    }
    assert len(names) > 50
    assert sorted(names - variables.ALL) == []


def test_names_of_other_parts_and_of_kubernetes_do_not_end_the_gateway() -> None:
    others = dict.fromkeys(variables.ALL - variables.GATEWAY, "1")
    assert Settings.from_env(others | OF_KUBERNETES) == Settings()


@pytest.mark.parametrize("name", sorted(variables.ALL))
def test_no_name_of_ours_looks_like_one_of_kubernetes(name: str) -> None:
    assert variables.ours({name: "8000"}) == {name: "8000"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("HEADRACE_HTTP_PROT", "did you mean HEADRACE_HTTP_PORT?"),
        ("HEADRACE_TIMOUT_S", "did you mean HEADRACE_TIMEOUT_S?"),
        ("HEADRACE_SOTRE", "did you mean HEADRACE_STORE?"),
        ("HEADRACE_LIVE_TIMEOUT", "did you mean HEADRACE_LIVE_TIMEOUT_S?"),
        ("HEADRACE_GRPC_PORTS", "did you mean HEADRACE_GRPC_PORT?"),
        ("HEADRACE_COLOUR", "python -m gateway --help"),
    ],
)
def test_a_name_that_nobody_reads_is_refused_with_the_near_one(name: str, hint: str) -> None:
    error = variables.unknown({name: "1"})
    assert error is not None
    assert error.startswith(f"{name} is not a setting") and hint in error
