"""The wheel of `make wheel`: it is built without an index, works outside the tree, and offers only
what works."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.test_requirements import pins

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        str(folder),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


def test_make_wheel_builds_with_the_pinned_backend() -> None:
    told = subprocess.run(
        ["make", "--dry-run", "wheel"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "-m hatchling build --target wheel --directory dist" in told


def test_it_holds_the_library_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        tops = {name.partition("/")[0].partition("-")[0] for name in content.namelist()}
    assert tops == {"headrace"}


def test_its_extras_are_those_whose_packages_the_servers_image_has(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        (name,) = [name for name in content.namelist() if name.endswith("/METADATA")]
        metadata = email.message_from_bytes(content.read(name))
    assert set(metadata.get_all("Provides-Extra", [])) == {"server", "tensorflow"}
    required = {
        re.match(r"[\w.-]+", line)[0].lower() for line in metadata.get_all("Requires-Dist", [])
    }
    assert required <= pins("server").keys()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with the wheel, beside the pinned packages that this one
    has."""
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(wheel)],
        check=True,
    )
    (packages,) = folder.glob("lib/python*/site-packages")
    (here,) = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "pinned.pth").write_text(here + "\n")
    return folder / "bin"


def run(*command: str | Path, cwd: Path) -> str:
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HEADRACE_", "PYTHON"))
    }
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=plain, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_commands_run_outside_the_tree(installed: Path) -> None:
    place = run(
        installed / "python",
        "-c",
        "import headrace.server; print(headrace.__file__)",
        cwd=installed,
    )
    assert place.startswith(str(installed.parent))
    assert re.search(
        r"^ +serve ", run(installed / "headrace", "--help", cwd=installed), re.MULTILINE
    )
