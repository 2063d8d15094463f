"""deploy/local/venv.py: an environment for each Python, and .venv as the link to the one used
last."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from deploy.local import venv
from tests.local import ROOT


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The module's places moved to an empty tree, and filling made to cost nothing."""
    filled = []
    monkeypatch.setattr(venv, "ROOT", tmp_path)
    monkeypatch.setattr(venv, "LINK", tmp_path / ".venv")
    monkeypatch.setattr(venv, "_install", filled.append)
    monkeypatch.setattr(venv, "_set", lambda name: ROOT / "requirements" / f"{name}.txt")
    use(tmp_path, monkeypatch, "3.11-one")
    return tmp_path, filled


def use(tmp_path, monkeypatch, name):
    """As another Python would."""
    folder = tmp_path / ".venvs" / name
    monkeypatch.setattr(venv, "VENV", folder)
    monkeypatch.setattr(venv, "PYTHON", folder / "bin" / "python")
    monkeypatch.setattr(venv, "_STAMP", folder / "headrace.json")
    monkeypatch.setattr(venv, "_create", lambda: make(folder))


def make(folder):
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / f"python{venv._VERSION}" / "site-packages").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    venv._write_stamp({**venv._interpreter(), "sets": {}})


def test_going_back_to_a_python_fills_nothing(tree, monkeypatch):
    root, filled = tree
    assert venv.ensure("local") and not venv.ensure("local")
    use(root, monkeypatch, "3.12-other")
    assert venv.ensure("local")
    assert (root / ".venv").resolve() == root / ".venvs" / "3.12-other"
    use(root, monkeypatch, "3.11-one")
    assert not venv.ensure("local")
    assert (root / ".venv").resolve() == root / ".venvs" / "3.11-one"
    assert filled == ["local", "local"]


def test_a_filling_that_fails_leaves_the_link_where_it_was(tree, monkeypatch):
    root, _ = tree
    venv.ensure("local")
    use(root, monkeypatch, "3.12-other")
    monkeypatch.setattr(
        venv, "_install", lambda name: (_ for _ in ()).throw(venv.Stop("no network"))
    )
    with pytest.raises(venv.Stop):
        venv.ensure("local")
    assert (root / ".venv").resolve() == root / ".venvs" / "3.11-one"


def test_a_folder_of_an_earlier_release_gives_way_to_the_link(tree):
    root, _ = tree
    (root / ".venv" / "bin").mkdir(parents=True)
    assert venv.ensure("local")
    assert (root / ".venv").is_symlink()


def test_what_runs_by_the_link_is_known_by_its_own_path():
    """So make's children go on in the environment they began in when another Python is chosen
    meanwhile."""
    rule = next(
        line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("VENV = ")
    )
    script = rule.removeprefix("VENV = ").replace("$$", "$") + " -c 'import sys; print(sys.prefix)'"
    told = subprocess.run(
        ["/bin/sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert told.strip() == os.path.realpath(ROOT / ".venv")
    assert shutil.which("python", path=told.strip() + "/bin")
