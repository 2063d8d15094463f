"""headrace doctor: what is a problem, what is not, and the advice for each problem."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import cli, doctor

ENTRY = 'config { name: "half" base_path: "/models/half" model_platform: "tensorflow" }'
CONFIG = f"model_config_list {{ {ENTRY} }}\n"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """half has a version; other has none."""
    version = tmp_path / "models" / "half" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"x")
    return tmp_path / "models"


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_prints_a_line_each_and_ends_with_1_on_a_problem(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desired = tmp_path / "multimodel.config"
    desired.write_text(CONFIG.replace("half", "other"))
    assert cli.main(["doctor", "--config", str(desired), "--store", str(store)]) == 1
    out = capsys.readouterr().out
    assert "problem model       other has no version" in out
    assert "-> `python -m trainer train other` makes one" in out
    assert f"ok      store       {store}: half 1" in out


def test_all_well_ends_with_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda *_: [doctor.Finding("python", "3.11")])
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out == "ok      python      3.11\n"


@pytest.mark.parametrize(
    ("version", "fits"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)]
)
def test_python_versions(version: tuple[int, int], fits: bool) -> None:
    assert doctor.check_python(version).is_problem is not fits


def test_the_server_of_the_environment_is_asked(closed_port: int) -> None:
    assert doctor.check_server({}) == []
    url = f"http://127.0.0.1:{closed_port}"
    (finding,) = doctor.check_server({"HEADRACE_URL": url})
    assert finding.is_problem and finding.text.startswith(f"cannot reach {url}")


def test_a_taken_port_is_named_with_its_variable(taken: int) -> None:
    environ = {name: str(taken) if name == "HEADRACE_GRPC_PORT" else "0" for name in doctor.PORTS}
    finding = doctor.check_ports(environ)
    assert finding.advice is not None
    assert f"{taken} (HEADRACE_GRPC_PORT)" in finding.text
    assert "make up HEADRACE_GRPC_PORT=PORT" in finding.advice


@pytest.mark.parametrize("value", ["http", "99999", "-1"])
def test_a_port_that_is_not_one_is_reported(value: str) -> None:
    assert "number from 1 to 65535" in str(doctor.check_ports({"HEADRACE_HTTP_PORT": value}))


def test_missing_tools_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install make" in str(doctor.check_make())
    assert not doctor.check_engine().is_problem


def test_a_half_copied_version_is_reported(store: Path) -> None:
    (store / "half" / "2").mkdir()
    findings = doctor.check_store(store)
    assert [f.text for f in findings if f.is_problem] == [
        f"{store}/half/2 is not a complete SavedModel"
    ]


def test_a_missing_store_is_reported(tmp_path: Path) -> None:
    (finding,) = doctor.check_store(tmp_path / "models")
    assert "name the store with --store" in str(finding.advice)


def test_a_broken_config_is_reported_with_its_position(tmp_path: Path) -> None:
    path = tmp_path / "multimodel.config"
    path.write_text("what\n")
    (finding,) = doctor.check_config(path, tmp_path)
    assert f"{path}:" in finding.text
    assert finding.is_problem
