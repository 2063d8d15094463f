"""The pinned sets: whole, hashed, of one mind with each other and with pyproject.toml, and without
index addresses."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from deploy.lock import SETS, WIDEST
from tests.local import ROOT

FOLDER = ROOT / "requirements"
_PIN = re.compile(r"^([a-z0-9-]+)==([^ ]+)(?: ; (.*?))? \\$")


def pins(name: str) -> dict[str, str]:
    return {
        m[1]: m[2]
        for line in (FOLDER / f"{name}.txt").read_text().splitlines()
        if (m := _PIN.match(line))
    }


@pytest.mark.parametrize("name", SETS)
def test_every_line_is_a_pin_with_hashes(name):
    lines = [
        line
        for line in (FOLDER / f"{name}.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    for before, line in zip(["", *lines], [*lines, "end==0 \\"], strict=True):
        if _PIN.match(line):
            assert not before or (
                before.startswith("    --hash=sha256:") and not before.endswith("\\")
            )
        else:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), line


@pytest.mark.parametrize("name", SETS)
def test_a_set_agrees_with_the_widest(name):
    assert pins(name).items() <= pins(WIDEST).items()
    assert len(pins(name)) > 20


def test_the_folder_holds_what_make_lock_writes():
    assert {path.stem for path in FOLDER.iterdir()} == SETS.keys()


def test_no_index_address_stands_in_a_file():
    for path in (*FOLDER.iterdir(), ROOT / "pyproject.toml"):
        assert not re.search(r"https?://|--(extra-)?index|--find-links", path.read_text()), (
            path.name
        )


def test_one_tensorflow_everywhere():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (version,) = {re.split("==|;", line)[1].strip() for line in extras["tensorflow"]}
    text = (ROOT / "pyproject.toml").read_text()
    found = re.findall(r"tensorflow(?:-cpu|-serving-api)?==([\d.]+)", text)
    assert set(found) == {version} and len(found) == 4
    for name in ("tensorflow", "tensorflow-cpu", "tensorflow-serving-api"):
        assert pins("dev")[name] == version


def test_tensorflow_never_lies_beside_tensorflow_cpu():
    text = (FOLDER / "dev.txt").read_text()
    assert re.search(
        r"^tensorflow==\S+ ; platform_machine != 'x86_64' or sys_platform != 'linux' ",
        text,
        re.MULTILINE,
    )
    assert re.search(
        r"^tensorflow-cpu==\S+ ; platform_machine == 'x86_64' and sys_platform == 'linux' ",
        text,
        re.MULTILINE,
    )


def test_the_gateway_carries_no_tensorflow():
    assert not [name for name in pins("gateway") if "tensorflow" in name or name == "keras"]


def test_the_sets_know_every_package_of_pyproject():
    whole = tomllib.loads(Path(ROOT / "pyproject.toml").read_text())
    project, lists = whole["project"], [*whole["project"]["optional-dependencies"].values()]
    lists += [
        [line for line in group if isinstance(line, str)]
        for group in whole["dependency-groups"].values()
    ]
    asked = [
        *project["dependencies"],
        *(line for lines in lists for line in lines),
        *whole["build-system"]["requires"],
    ]
    names = {re.match(r"[A-Za-z0-9._-]+", line)[0].lower().replace("_", "-") for line in asked} - {
        "headrace"
    }
    assert names <= pins(WIDEST).keys()
