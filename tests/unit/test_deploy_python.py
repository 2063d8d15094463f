"""deploy/local/python.sh: which Python carries the stack, and what is said where none can."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FINDER = Path(__file__).parents[2] / "deploy" / "local" / "python.sh"
SHIM = "#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n"
OLD = "#!/bin/sh\nexit 3\n"  # what the probe answers under another version
BARE = "#!/bin/sh\necho 3.12\nexit 4\n"  # and where Debian has not installed the venv package


def real(name: str) -> str:
    return f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\necho {name} "$@"\n'


@pytest.fixture
def find(tmp_path):
    """Runs the finder of a copied tree with a PATH that holds the given commands and nothing else
    named python."""
    tree, commands = tmp_path / "the tree", tmp_path / "bin"
    (tree / "deploy" / "local").mkdir(parents=True)
    commands.mkdir()
    finder = tree / "deploy" / "local" / "python.sh"
    finder.write_bytes(FINDER.read_bytes())
    for tool in ("sh", "dirname"):
        (commands / tool).symlink_to(_which(tool))

    def run(
        pythons: dict[str, str], *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        for name, script in pythons.items():
            path = tree / name if "/" in name else commands / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(script)
            path.chmod(0o755)
        return subprocess.run(
            ["/bin/sh", str(finder), *arguments],
            env={"PATH": str(commands), **environment},
            capture_output=True,
            text=True,
            timeout=30,
        )

    return run


def _which(tool: str) -> str:
    return next(
        str(p) for folder in os.environ["PATH"].split(":") if (p := Path(folder) / tool).exists()
    )


def test_the_newest_that_fits_is_taken(find):
    found = find({"python3.13": real("new"), "python3.11": real("old")}, "-m", "deploy", "up")
    assert found.stdout == "new -m deploy up\n"


def test_a_shim_that_does_not_run_is_passed_over(find):
    found = find({"python3.13": SHIM, "python3.12": SHIM, "python3": real("plain")}, "x")
    assert (found.returncode, found.stdout, found.stderr) == (0, "plain x\n", "")


def test_the_venv_that_is_there_comes_first(find):
    found = find({".venv/bin/python": real("venv"), "python3.13": real("new")}, "x")
    assert found.stdout == "venv x\n"


def test_a_broken_venv_is_passed_over(find):
    assert find({".venv/bin/python": SHIM, "python": real("plain")}, "x").stdout == "plain x\n"


def test_another_version_is_not_taken(find):
    found = find({"python3": OLD, "python": OLD}, "x")
    assert found.returncode == 1
    assert found.stderr.startswith("No Python 3.11, 3.12 or 3.13 was found")


def test_no_python_at_all_says_what_to_do(find):
    found = find({}, "x")
    assert found.returncode == 1
    assert "PYTHON=/path/to/python3" in found.stderr


def test_a_python_without_venv_names_the_package(find):
    found = find({"python3": BARE}, "x")
    assert found.returncode == 1
    assert "apt install python3.12-venv" in found.stderr


def test_a_complete_python_beats_a_newer_one_without_venv(find):
    assert find({"python3.12": BARE, "python3.11": real("older")}, "x").stdout == "older x\n"


def test_PYTHON_overrides(find):
    assert (
        find({"python3.13": real("new"), "mine": real("mine")}, "x", PYTHON="mine").stdout
        == "mine x\n"
    )


def test_an_unfit_PYTHON_is_an_error_and_nothing_else_is_tried(find):
    found = find({"python3.13": real("new"), "mine": OLD}, "x", PYTHON="mine")
    assert found.returncode == 1
    assert "PYTHON=mine" in found.stderr
    assert found.stdout == ""
